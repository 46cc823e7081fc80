"""Runs suites without pytest: what ``lmgraft plugins check`` prints."""

from __future__ import annotations

import importlib
import inspect
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmgraft import distributions, table, testing
from lmgraft.errors import Problem, UserError
from lmgraft.table import Row
from lmgraft.testing.outcome import Nonconforming, NotApplicable
from lmgraft.testing.suite import Suite

__all__ = ["GATES", "Result", "checks_of", "recipes_of", "run", "suites_for", "suites_of", "suites_of_nothing"]

#: A part that fails one of these can be held to nothing else: check -> why the others are not run.
GATES = {
    "test_entry_point": "the part cannot be loaded",
    "test_defaults_compose": "its settings cannot be composed",
    "test_follows_the_protocol": "it lacks what its seam's protocol has",
}


@dataclass(frozen=True, slots=True)
class Result:
    """How one check of one part ended."""

    seam: str
    part: str
    check: str
    state: str
    """``passed``, ``failed`` or ``skipped``."""
    fact: str = ""
    cause: str = ""
    remedy: str = ""
    reason: str = ""
    """Of a check that was skipped: why."""
    seconds: float = 0.0


def suites_of(distribution: str) -> list[type[Suite]]:
    """The suites in the modules that a distribution names under ``lmgraft.testing``.

    Raises :class:`UserError` where such a module cannot be imported.
    """
    found: list[type[Suite]] = []
    one = distributions.named(distribution)
    for module in one.values("testing") if one else ():
        try:
            content = vars(importlib.import_module(module))
        except Exception as error:
            cause = f"importing it raised {type(error).__name__}: {error}"
            remedy = f"mend {module}, or what it imports"
            if isinstance(error, ModuleNotFoundError) and str(error.name).partition(".")[0] in ("pytest", "_pytest"):
                remedy = f"keep pytest out of {module}: it is not installed where a wheel is checked"
            raise UserError(
                Problem(f"the suites of {distribution} in {module} cannot be read", cause, remedy)
            ) from error
        found += [
            item
            for item in content.values()
            if inspect.isclass(item) and issubclass(item, Suite) and item.__module__ == module and _is_meant(item)
        ]
    return found


def _is_meant(suite: type[Suite]) -> bool:
    """A base for others needs no component; what is named as pytest collects it does, and fails without."""
    return bool(suite.component) or suite.__name__.startswith("Test")


def suites_for(row: Row, own: Sequence[type[Suite]]) -> list[type[Suite]]:
    """The distribution's own suites of a part, or the seam's bare one."""
    found = [suite for suite in own if (suite.seam, suite.component) == (row.seam, row.name)]
    if found:
        return found
    base: type[Suite] = getattr(testing, testing.SUITES[row.seam])
    return [type(f"Test_{row.name}", (base,), {"component": row.name})]


def suites_of_nothing(rows: Sequence[Row], own: Sequence[type[Suite]]) -> list[type[Suite]]:
    """The suites of a distribution that name none of its parts: a name is misspelt there, and they fail."""
    parts = {(row.seam, row.name) for row in rows}
    return [suite for suite in own if (suite.seam, suite.component) not in parts]


def recipes_of(distribution: str) -> list[type[Suite]]:
    """The suite of the recipes that a distribution ships."""
    from lmgraft.testing.recipes import RecipesSuite

    return [type("TestRecipes", (RecipesSuite,), {"component": distribution})]


def checks_of(suite: type[Suite]) -> list[str]:
    """The names of a suite's checks, those that all others rest on first."""
    names = [name for kind in reversed(suite.__mro__) for name in vars(kind) if name.startswith("test_")]
    wanted = [name for name in dict.fromkeys(names) if callable(getattr(suite, name))]
    order = [*GATES, *wanted]
    return sorted(wanted, key=order.index)


def run(suite: type[Suite], only: str = "") -> Iterator[Result]:
    """One result a check (with ``only``, of those whose name holds it); where the part cannot be loaded or composed,
    the others are skipped."""
    unusable = ""
    wanted = only.replace(" ", "_")
    for name in checks_of(suite):
        if wanted not in name:
            continue
        if unusable:
            yield Result(suite.seam, suite.component, name, "skipped", reason=unusable)
            continue
        result = _one(suite, name)
        unusable = GATES.get(name, "") if result.state == "failed" else ""
        yield result


def _one(suite: type[Suite], name: str) -> Result:
    start = time.perf_counter()
    state, problem, reason = "passed", Problem("", "", ""), ""
    try:
        subject = suite()
        subject.setup_method()
        try:
            getattr(subject, name)()
        finally:
            subject.teardown_method()
    except NotApplicable as skipped:
        state, reason = "skipped", str(skipped)
    except Nonconforming as error:
        state, problem = "failed", error.problem
    except UserError as error:
        state, problem = "failed", error.problems[0]
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a part may end the process (SystemExit), and the others are still to be checked
        state, problem = "failed", _raised(suite, name, error)
    seconds = time.perf_counter() - start
    return Result(
        suite.seam, suite.component, name, state, problem.fact, problem.cause, problem.remedy, reason, seconds
    )


def _raised(suite: type[Suite], check: str, error: BaseException) -> Problem:
    """What a part raised in the middle of a check, with the line of its own code."""
    frames = traceback.extract_tb(error.__traceback__)
    rows = table.select(suite.seam, suite.component)
    place = table.location(rows[0]) if rows else None
    own = [frame for frame in frames if place and Path(frame.filename).is_relative_to(place)]
    last = (own or frames)[-1]
    doing = check.removeprefix("test_").replace("_", " ")
    return Problem(
        f"{suite.seam} {suite.component} raised {type(error).__name__} in the check of {doing}",
        str(error) or f"{type(error).__name__} without a message",
        f"look at {last.filename}, line {last.lineno}: {last.line}",
    )
