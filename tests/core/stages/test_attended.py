"""A stop is obeyed while a trainer is at work, and what it raises arrives."""

from __future__ import annotations

import threading
import time

import pytest
from lmgraft.errors import Problem, Stopped, UserError
from lmgraft.stages._attended import attended


def test_a_stop_is_obeyed_while_the_work_goes_on() -> None:
    end = threading.Event()
    asked: list[float] = []

    def alive() -> None:
        asked.append(time.monotonic())
        if len(asked) == 2:
            raise Stopped("stopped on SIGINT")

    begun = time.monotonic()
    with pytest.raises(Stopped):
        attended(lambda: end.wait(60), alive)
    assert time.monotonic() - begun < 20
    end.set()


def test_what_the_work_raises_arrives() -> None:
    def work() -> None:
        raise UserError(Problem("fact", "cause", "remedy"))

    with pytest.raises(UserError, match="fact"):
        attended(work, lambda: None)


def test_it_waits_for_the_work() -> None:
    done: list[int] = []

    def work() -> None:
        time.sleep(0.5)
        done.append(1)

    attended(work, lambda: None)
    assert done == [1]
