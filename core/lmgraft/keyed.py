"""Problems by key: a part names itself in what it says (``files.path: x does not exist``), and a recipe may have
several parts of one name, each under a key of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from lmgraft import table
from lmgraft.errors import Problem, UserError

__all__ = ["by_key", "keyed"]


def by_key(problem: Problem, seam: str, where: str) -> Problem:
    """The problem with the part's name, where it leads the fact or a setting in the remedy, replaced by its key.

    ``where`` is the part's place, ``corpus.sources.books``. A part that stands under its own name keeps its words.
    """
    if problem.fact.startswith((f"{where}.", f"{where}:")):
        return problem  # a stage may be called as its part is: dpo.objective.beta
    found = re.match(r"\w+(?=[.:])", problem.fact)
    name = found.group() if found else ""
    if not name or name == where.rpartition(".")[2] or not table.select(seam, name):
        return problem
    settings = rf"(?<![\w.]){name}(?=\.\w+)"
    return replace(
        problem, fact=where + problem.fact.removeprefix(name), remedy=re.sub(settings, where, problem.remedy)
    )


@contextmanager
def keyed(seam: str, where: str) -> Iterator[None]:
    """Says the problems of one part by its key."""
    try:
        yield
    except UserError as error:
        problems = [by_key(problem, seam, where) for problem in error.problems]
        if problems != list(error.problems):
            error.problems = tuple(problems)  # of its own kind still
            error.args = (error.render(),)
        raise
