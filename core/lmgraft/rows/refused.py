"""Rows that an objective refuses: all of them are counted before a stage stops, and the first ones shown."""

from __future__ import annotations

from collections.abc import Iterator

from lmgraft.errors import SHOWN, Problem, UserError

__all__ = ["Refused"]


class Refused:
    """What was refused so far."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[Problem] = []

    def add(self, error: UserError) -> None:
        """One row more."""
        self.count += 1
        self._first += error.problems if len(self._first) < SHOWN else ()

    def problems(self, stage: str, split: str) -> Iterator[Problem]:
        """How many there are where that is not plain to see, and the first ones: no more than are shown, or else the
        error's own "and 1 more" would hide how many rows it is about."""
        if self.count > SHOWN - 1:
            cause = "the objective cannot learn from them; the first ones follow"
            yield Problem(f"stage {stage}: {self.count:,} rows of {split} are refused", cause, "mend or filter them")
        yield from self._first[: SHOWN - 1 if self.count > SHOWN - 1 else SHOWN]
