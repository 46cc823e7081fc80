"""``lmgraft plugins check``: the conformance kit against an installed distribution."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import click

from lmgraft import distributions, table
from lmgraft.errors import EXIT_USER, Problem, UserError
from lmgraft.table import Row

if TYPE_CHECKING:
    from lmgraft.testing.running import Result

__all__ = ["brings_nothing", "check"]

_MARKS = {"passed": "ok", "failed": "FAILED", "skipped": "-"}


@click.command(
    "check",
    epilog="""\b
Examples:
  lmgraft plugins check my-dpo
  lmgraft plugins check my-dpo --part my_dpo --only causality
  lmgraft plugins check my-dpo --json > report.json

Suites of the distribution's own are found under the entry-point group lmgraft.testing; a part without one is checked
with its default settings. Exit code 2 where a check fails.""",
)
@click.argument("distribution")
@click.option("--part", help="Only the part of this name.")
@click.option("--only", help="Only checks whose name holds this word.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a check.")
def check(distribution: str, part: str | None, only: str | None, as_json: bool) -> int:
    """Holds every part of an installed distribution to its seam's contract."""
    rows = _rows(distribution, part)
    one = distributions.named(distribution)
    recipes = not part and one is not None and bool(one.values("recipes"))
    if one is None or (not rows and not recipes):
        raise brings_nothing(distribution)
    name = one.name
    found = list(_results(name, rows, part, recipes, only or "", quiet=as_json))
    if only and not found:
        cause = "the checks' names are printed without --only"
        raise UserError(Problem(f"no check of {distribution} has {only!r} in its name", cause, "leave --only out"))
    if as_json:
        print(json.dumps([asdict(result) for result in found], indent=2))
    else:
        print(_conclusion(f"{name} {one.version}", rows, found))
    return EXIT_USER if any(result.state == "failed" for result in found) else 0


def _rows(distribution: str, part: str | None) -> list[Row]:
    own = table.canonical(distribution)
    # What metadata shows to be wrong and to be no part: a group of no seam, entry points that cannot be read.
    faults = [row for row in table.faults() if table.canonical(row.distribution) == own]
    if faults:
        raise UserError([Problem(f"{row.distribution} cannot be checked", row.reason, row.remedy) for row in faults])
    rows = [row for row in table.rows() if table.canonical(row.distribution) == own]
    chosen = [row for row in rows if part in (None, row.name)]
    if rows and not chosen:
        names = sorted({row.name for row in rows})
        remedy = table.close(str(part), names) or "one of these"
        raise UserError(Problem(f"{distribution} has no part {part!r}", f"its parts are {', '.join(names)}", remedy))
    return chosen


def brings_nothing(distribution: str) -> UserError:
    """What to say of a name that brings no part: a part's own name, recipes alone, no group of ours, not installed."""
    from importlib import metadata

    fact, names = (
        f"{distribution or 'an empty name'} brings no part",
        sorted({row.distribution for row in table.listed()}),
    )
    owners = sorted({row.distribution for row in table.rows() if row.name == distribution})
    one = distributions.named(distribution)
    if owners:
        return UserError(
            Problem(fact, f"it is a part of {owners[0]}", f"lmgraft plugins check {owners[0]} --part {distribution}")
        )
    if one is not None and one.values("recipes"):
        return UserError(Problem(fact, "it ships recipes alone", f"lmgraft plugins check {one.name}; lmgraft recipes"))
    try:
        installed = bool(distribution) and metadata.distribution(distribution)
    except (metadata.PackageNotFoundError, ValueError):
        installed = False
    if installed:
        cause = "it is installed, and names no module in a group lmgraft.SEAM of its entry points"
        remedy = '[project.entry-points."lmgraft.SEAM"] in its pyproject.toml, and install it again'
        return UserError(Problem(fact, cause, remedy))
    cause = f"it is not installed; distributions with parts: {', '.join(names)}"
    remedy = table.close(distribution, names) or "pip install it, and name the distribution, not a file or a folder"
    return UserError(Problem(fact, cause, remedy))


def _results(
    distribution: str, rows: list[Row], part: str | None, recipes: bool, only: str, *, quiet: bool
) -> Iterator[Result]:
    from lmgraft.testing import running

    own = running.suites_of(distribution)
    makers = [partial(running.suites_for, row, own) for row in rows]
    if not part:
        makers.append(partial(running.suites_of_nothing, rows, own))
    if recipes:
        makers.append(partial(running.recipes_of, distribution))
    for make in makers:
        for suite in make():  # one seam at a time: its suite imports what it needs
            if not quiet:
                by = suite.__name__ if suite in own else "the bare suite"
                print(f"{suite.seam} {suite.component}, by {by}", flush=True)
            for result in running.run(suite, only):
                if not quiet:
                    _show(result, getattr(suite, result.check).__doc__ or "")
                yield result


def _show(result: Result, doc: str) -> None:
    words = " ".join(doc.split()).partition(". ")[0]
    name = result.check.removeprefix("test_").replace("_", " ")
    print(f"  {_MARKS[result.state]:<7}{name}: {result.reason or words}", flush=True)
    if result.state == "failed":
        lines = str(Problem(result.fact, result.cause, result.remedy)).splitlines()
        print("\n".join(f"         {line}" for line in lines), flush=True)


def _conclusion(distribution: str, rows: list[Row], found: list[Result]) -> str:
    count = {state: sum(result.state == state for result in found) for state in _MARKS}
    seconds = sum(result.seconds for result in found)
    parts = f"{len(rows)} part{'' if len(rows) == 1 else 's'}"
    return (
        f"{distribution}: {parts}, {count['passed']} check{'' if count['passed'] == 1 else 's'} passed, "
        f"{count['failed']} failed, {count['skipped']} do not apply, {seconds:.0f} s"
    )
