"""Reading ahead: the next step is made while one computes, never two, and errors come at the step they are of."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Sequence

import pytest
import torch
from lmgraft.errors import Problem, UserError
from lmgraft.seams.objective import Batch
from lmgraft.training.prefetch import Prefetch


class Steps:
    """Makes a batch that says which step it is of; slowly, or not at all where told so."""

    def __init__(self, seconds: float = 0.0, broken: int = -1) -> None:
        self.seconds, self.broken = seconds, broken
        self.begun: list[int] = []
        self.made: list[weakref.ref[torch.Tensor]] = []
        self.threads: set[str] = set()

    def tokens(self, step: int) -> int:
        return 10 + step

    def microbatches(self, step: int, rank: int, size: int, micro_batch: int | None) -> Sequence[Batch]:
        self.begun.append(step)
        self.threads.add(threading.current_thread().name)
        time.sleep(self.seconds)
        if step == self.broken:
            raise UserError(Problem(f"step {step}", "it is broken", "mend it"))
        whole = torch.full((1, 4), step)
        batch = Batch(whole, whole, torch.ones(1, 4), torch.tensor([[rank, size, micro_batch or 0, 0]]))
        self.made.append(weakref.ref(whole))
        return [batch]

    def alive(self) -> int:
        return sum(one() is not None for one in self.made)


def settled(steps: Steps, count: int) -> None:
    """Until so many steps were begun, and no more are."""
    for _ in range(400):
        if len(steps.begun) >= count:
            break
        time.sleep(0.005)
    time.sleep(0.03)
    assert len(steps.begun) == count


def test_steps_come_in_order_with_what_was_asked_for() -> None:
    steps = Steps()
    with Prefetch(steps, (2, 3), 5, 6) as feed:
        feed.begin(0)
        for step in range(6):
            fed = feed.take(step)
            assert fed.tokens == 10 + step
            (batch,) = fed.microbatches
            assert batch.tokens.unique().tolist() == [step]
            assert batch.positions.tolist() == [[2, 3, 5, 0]]
    assert steps.begun == list(range(6))  # none after the last
    assert all(name.startswith("lmgraft-loader") for name in steps.threads)


def test_one_step_ahead_and_never_two() -> None:
    steps = Steps()
    with Prefetch(steps, (0, 1), None, 50) as feed:
        feed.begin(0)
        settled(steps, 1)
        for step in range(5):
            fed = feed.take(step)
            settled(steps, step + 2)
            assert steps.alive() == 2
            del fed
            assert steps.alive() == 1


def test_what_is_made_ahead_is_not_waited_for() -> None:
    with Prefetch(Steps(seconds=0.05), (0, 1), None, 4) as feed:
        for step in range(4):
            feed.take(step)
            time.sleep(0.15)  # the step at work
        assert 0.04 < feed.waited < 0.1  # for the first alone
    with Prefetch(Steps(seconds=0.05), (0, 1), None, 4) as feed:
        for step in range(4):
            feed.take(step)
        assert feed.waited > 0.18


def test_it_goes_on_at_any_step() -> None:
    steps = Steps()
    with Prefetch(steps, (0, 1), None, 9) as feed:
        feed.begin(7)
        assert [feed.take(step).tokens for step in (7, 8)] == [17, 18]
    assert steps.begun == [7, 8]


def test_an_error_comes_at_its_step() -> None:
    steps = Steps(broken=2)
    with Prefetch(steps, (0, 1), None, 9) as feed:
        feed.take(0)
        feed.take(1)
        settled(steps, 3)  # step 2 is broken by now, and step 1 knows nothing of it
        with pytest.raises(UserError, match="step 2"):
            feed.take(2)


def leave(prefetch: Prefetch) -> None:
    with prefetch as feed:
        feed.take(0)
        raise KeyboardInterrupt


def test_left_early_the_thread_is_gone_and_its_error_with_it() -> None:
    steps = Steps(seconds=0.05, broken=1)
    with pytest.raises(KeyboardInterrupt):
        leave(Prefetch(steps, (0, 1), None, 9))
    assert steps.begun in ([0], [0, 1])
    assert not any(thread.name.startswith("lmgraft-loader") for thread in threading.enumerate())
    assert steps.alive() == 0


def test_nothing_to_do_is_nothing_begun() -> None:
    steps = Steps()
    with Prefetch(steps, (0, 1), None, 5) as feed:
        feed.begin(5)
    assert steps.begun == []
