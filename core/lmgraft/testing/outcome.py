"""How a check ends when it does not pass: the part does not conform, or the check does not apply to it."""

from __future__ import annotations

import unittest

from lmgraft.errors import Problem

__all__ = ["Nonconforming", "NotApplicable"]


class Nonconforming(AssertionError):
    """A part breaks its seam's contract; the text is the three lines that its author needs."""

    def __init__(self, fact: str, cause: str, remedy: str) -> None:
        self.problem = Problem(fact, cause, remedy)
        super().__init__(f"{self.problem}")


class NotApplicable(unittest.SkipTest):
    """The check says nothing about this part. pytest shows it as a skip, with the reason."""
