"""Problems of a corpus stage's parts with each setting as it is typed: ``corpus.sources.books.text``.

A part knows its own name (``files.text``) and a worker its key (``sources.books``), neither the stage's name; what a
message tells a user to type has to be the whole key.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lmgraft.errors import Problem, UserError

__all__ = ["typed"]

QUARANTINE = "corrupt=quarantine"


@contextmanager
def typed(stage: str, parts: Mapping[str, tuple[Any, Any]]) -> Iterator[None]:
    """``parts`` are by place within the stage (``sources.books``), each a component and its config."""
    try:
        yield
    except UserError as error:
        problems = [_typed(problem, stage, parts) for problem in error.problems]
        if problems != list(error.problems):
            error.problems = tuple(problems)  # of its own kind still
            error.args = (error.render(),)
        raise


def _typed(problem: Problem, stage: str, parts: Mapping[str, tuple[Any, Any]]) -> Problem:
    fact, remedy = problem.fact, problem.remedy
    for place, (component, config) in parts.items():
        fact = re.sub(rf"^{re.escape(place)}(?=[.:])", f"{stage}.{place}", fact)
        settings = "|".join(spec.name for spec in dataclasses.fields(config)) if config is not None else ""
        names = {place, component.name} if place.endswith(f".{component.name}") else {place}
        for name in names if settings else ():
            remedy = re.sub(rf"(?<![\w./-]){re.escape(name)}\.(?=({settings})\b)", f"{stage}.{place}.", remedy)
    remedy = re.sub(rf"(?<![\w.]){QUARANTINE}\b", f"{stage}.{QUARANTINE}", remedy)
    return dataclasses.replace(problem, fact=fact, remedy=remedy)
