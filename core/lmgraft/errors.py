"""Errors that speak to the person at the keyboard: the fact, its cause and the remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lmgraft.printable import printable

__all__ = ["EXIT_FAULT", "EXIT_STOPPED", "EXIT_USER", "Fault", "LmgraftError", "Problem", "Stopped", "UserError"]

EXIT_FAULT = 1
EXIT_USER = 2
EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: start the same command again and it goes on

#: How many problems are printed whole before the rest is counted.
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, in three lines.

    ``fact`` names the file, key or plugin; ``cause`` says why that is wrong; ``remedy`` is what to do or type next.
    """

    fact: str
    """What is wrong, with the name of the file, key or plugin."""
    cause: str
    """Why."""
    remedy: str
    """What to do or type next."""

    def __str__(self) -> str:
        return f"{_line(self.fact)}\n  because: {_line(self.cause)}\n  try: {_line(self.remedy)}"


def _line(text: str) -> str:
    """Folds a message to one line: three lines is the promise, whatever a library put into its message, and nothing in
    it acts on a terminal."""
    return printable(" ".join(text.split()))


class LmgraftError(Exception):
    """Base of everything that lmgraft raises on purpose."""

    exit_code = EXIT_FAULT


class UserError(LmgraftError):
    """The user's input is wrong. Printed without a traceback; exit code 2.

    Takes one :class:`Problem` or several: ``UserError(Problem(fact, cause, remedy))``. ``problems`` holds them.
    """

    exit_code = EXIT_USER
    """Of the process that ends with it."""

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        if not self.problems:
            raise ValueError("a UserError needs at least one problem")
        super().__init__(self.render())

    def __reduce__(self) -> tuple[type[UserError], tuple[tuple[Problem, ...]]]:
        # Worker processes hand errors back by pickle; the default would pass the rendered text to __init__.
        return type(self), (self.problems,)

    def render(self) -> str:
        """The first five problems whole, then a count."""
        shown = [str(problem) for problem in self.problems[:SHOWN]]
        rest = len(self.problems) - len(shown)
        if rest:
            shown.append(f"... and {rest} more of the same kind")
        return "\n".join(shown)


class Fault(LmgraftError):
    """lmgraft or one of its parts broke a promise: a programmer's mistake and no user's. Exit code 1."""


class Stopped(LmgraftError):
    """A signal arrived; the work so far is saved and the same command goes on. Exit code 75."""

    exit_code = EXIT_STOPPED
    """Of the process that ends with it."""
