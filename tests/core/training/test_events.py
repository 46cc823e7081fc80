from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from lmgraft.errors import Fault, Problem, Stopped, UserError
from lmgraft.training.events import FileEvents, Follower, NoEvents


class Context:
    """Keeps what reaches the parent; raises ``error`` when asked whether it is alive."""

    def __init__(self, error: Exception | None = None) -> None:
        self.rows: list[Mapping[str, Any]] = []
        self.notes: list[str] = []
        self.checkpoints: list[tuple[int, Path]] = []
        self.bar: list[tuple[float, dict[str, Any]]] = []
        self.error = error
        self.failing = False

    def emit(self, row: Mapping[str, Any]) -> None:
        if self.failing:
            raise OSError("disk full")
        self.rows.append(row)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def checkpointed(self, step: int, path: Path) -> None:
        self.checkpoints.append((step, path))

    def alive(self) -> None:
        if self.error is not None:
            raise self.error

    def advance(self, amount: float = 1, **shown: Any) -> None:
        self.bar.append((amount, shown))

    def total(self, total: float) -> None: ...


def follow(context: Any, folder: Path) -> Follower:
    return Follower(context, folder, context, folder / "checkpoints")


def until_stopped(events: NoEvents) -> None:
    for _ in range(500):
        events.alive()
        time.sleep(0.01)
    raise AssertionError("nobody stopped it")


def test_everything_reaches_the_parent_in_order(tmp_path: Path) -> None:
    context = Context()
    with follow(context, tmp_path):
        events = FileEvents(tmp_path)
        events.note("before the beginning")
        events.begin(0)
        for step in range(1, 300):
            events.row({"step": step, "loss": 1 / step, "text": "ü\n"})
            events.progress(step, {"loss": "1"})
            time.sleep(0.001)
        events.checkpoint(299, tmp_path / "checkpoints/step-00000299")
    assert [row["step"] for row in context.rows] == list(range(1, 300))
    assert context.rows[2] == {"step": 3, "loss": 1 / 3, "text": "ü\n"}
    assert context.notes == ["before the beginning"]
    assert context.checkpoints == [(299, tmp_path / "checkpoints/step-00000299")]
    assert len(context.bar) < 100  # the bar is moved ten times a second, not at each step
    assert sum(amount for amount, _ in context.bar) == 299


def test_rows_of_the_past_come_again_up_to_the_checkpoint(tmp_path: Path) -> None:
    for begin, last, expected in [(0, 9, range(1, 10)), (6, 8, range(1, 9)), (7, 7, range(1, 8)), (0, 2, range(1, 3))]:
        context = Context()
        with follow(context, tmp_path):
            events = FileEvents(tmp_path)
            events.begin(begin)
            for step in range(begin + 1, last + 1):
                events.row({"step": step})
        assert [row["step"] for row in context.rows] == list(expected)
        assert sum(amount for amount, _ in context.bar) == last
        with (tmp_path / "events.jsonl").open("a") as stream:
            stream.write('["row", {"step": 1')  # a kill in the midst of a line


def test_a_start_that_never_began_loses_no_rows(tmp_path: Path) -> None:
    with follow(Context(), tmp_path):
        events = FileEvents(tmp_path)
        events.begin(0)
        events.row({"step": 1})
    with pytest.raises(Fault, match="early"), follow(Context(), tmp_path):
        raise Fault("too early")
    context = Context()
    with follow(context, tmp_path):
        FileEvents(tmp_path).begin(1)
    assert [row["step"] for row in context.rows] == [1]


def test_a_signal_stops_the_ranks_and_comes_back(tmp_path: Path) -> None:
    with pytest.raises(Stopped, match="SIGTERM"), follow(Context(Stopped("SIGTERM")), tmp_path):
        until_stopped(NoEvents(tmp_path))
    # The word is gone at the next start.
    with follow(Context(), tmp_path):
        NoEvents(tmp_path).alive()


def test_a_lost_lease_is_no_reason_to_save(tmp_path: Path) -> None:
    seen: list[BaseException] = []

    def work() -> None:
        try:
            until_stopped(NoEvents(tmp_path))
        except BaseException as error:
            seen.append(error)
            raise

    with pytest.raises(UserError, match="lease"), follow(Context(UserError(problem())), tmp_path):
        work()
    assert not isinstance(seen[0], Stopped)


def test_a_parent_that_cannot_write_stops_the_ranks(tmp_path: Path) -> None:
    context = Context()
    context.failing = True

    def work() -> None:
        events = FileEvents(tmp_path)
        events.begin(0)
        events.row({"step": 1})
        until_stopped(events)

    with pytest.raises(OSError, match="disk full"), follow(context, tmp_path):
        work()


def test_an_error_of_the_work_passes_through(tmp_path: Path) -> None:
    context = Context()

    def work() -> None:
        events = FileEvents(tmp_path)
        events.begin(0)
        events.row({"step": 1})
        raise UserError(problem())

    with pytest.raises(UserError, match="lease"), follow(context, tmp_path):
        work()
    assert context.rows == [{"step": 1}]


def problem() -> Problem:
    return Problem("the lease is lost", "another process has it", "wait for it")
