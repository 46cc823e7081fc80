"""What a source makes of damaged input, and what is wrong with how it tells it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from lmgraft.errors import Problem, UserError
from lmgraft.seams.data_source import Damaged

__all__ = ["REMEDY", "damage_fault", "read_damaged", "untold"]

REMEDY = (
    "yield Damaged(reason, Problem(fact, cause, remedy)), or raise Unreadable: the fact names the file and the line"
)

#: A reason is a key of the funnel.
_REASON = re.compile(r"[a-z0-9][a-z0-9_]*")
_REMEDY = 'Damaged("bad_row", Problem(fact, cause, remedy)): the reason in lower-case letters, digits and _'


def read_damaged(part: Any) -> tuple[list[Any], UserError | None]:
    """All that a source yields of its units, and the error that it ended with."""
    found: list[Any] = []
    try:
        for unit in part.units():
            found += part.read(unit, 0)
    except UserError as error:
        return found, error
    return found, None


def damage_fault(damaged: Damaged) -> Problem | None:
    """What is wrong with what stands in a document's place; None where nothing is."""
    return next(_faults(damaged), None)


def untold(found: Sequence[Any], error: UserError | None, names: Collection[str]) -> Problem | None:
    """What is wrong with how damage in files of these names is told, after the source's name; None where nothing is."""
    damaged = [one for one in found if isinstance(one, Damaged)]
    for wrong in filter(None, map(damage_fault, damaged)):
        return wrong
    problems = [*(one.problem for one in damaged), *(error.problems if error else ())]
    if not problems:
        cause = f"it gave {len(found)} documents, and the rest is lost unseen"
        return Problem("reads damaged input without a word", cause, REMEDY)
    unnamed = [one for one in problems if names and not any(name in str(one) for name in names)]
    if unnamed:
        return Problem("does not say which file is damaged", f"it says: {unnamed[0].fact}", REMEDY)
    return None


def _faults(damaged: Damaged) -> Iterator[Problem]:
    if not _REASON.fullmatch(str(damaged.reason)):
        cause = "the reason is a key of the funnel, where people look for what was lost and why"
        yield Problem(f"gives damaged input the reason {damaged.reason!r}", cause, _REMEDY)
    problem: Any = damaged.problem
    if not isinstance(problem, Problem):
        cause = "corrupt=stop prints it: what is wrong, why, and what to do"
        yield Problem(f"tells damaged input by a {type(problem).__name__}", cause, _REMEDY)
    if damaged.bytes < 0:
        cause = "they are bytes of input, as far as known, and added up"
        yield Problem(f"counts {damaged.bytes!r} bytes of damaged input", cause, "give 0 where it is not known")
