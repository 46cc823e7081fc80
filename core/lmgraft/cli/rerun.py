"""``lmgraft rerun``: repeats a run from its manifest and refuses where something changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from lmgraft.errors import Problem
    from lmgraft.recipe import Recipe

__all__ = ["rerun"]


@click.command(
    epilog="""\b
Examples:
  lmgraft rerun runs/quickstart/2026-01-31_12-00-00
  lmgraft rerun runs/quickstart/2026-01-31_12-00-00 store.dir=/tmp/empty   everything is built again
  lmgraft rerun runs/quickstart/2026-01-31_12-00-00 --accept-drift"""
)
@click.argument("run", type=click.Path())
@click.argument("overrides", nargs=-1)
@click.option("--accept-drift", is_flag=True, help="Go on although parts or the recipe changed since.")
@click.option("-q", "--quiet", is_flag=True)
def rerun(run: str, overrides: tuple[str, ...], accept_drift: bool, quiet: bool) -> int:
    """Repeats RUN with the same recipe, parts and seed, and says whether the artifacts came out equal.

    OVERRIDES may only say where things lie (run.dir=, store.dir=).
    """
    from lmgraft import compose
    from lmgraft.api import open_run
    from lmgraft.cli import _running
    from lmgraft.cli._repeat import overrides_of
    from lmgraft.console import Console
    from lmgraft.errors import Problem, UserError
    from lmgraft.rundir import default_run_dir
    from lmgraft.runner import Options, Runner

    strange = [line for line in overrides if not line.startswith(("run.dir=", "store.dir="))]
    if strange:
        cause = "a repeated run takes its recipe from the manifest; only run.dir= and store.dir= are free"
        raise UserError(Problem(f"the override {strange[0]!r} is refused", cause, f"lmgraft run RECIPE {strange[0]}"))
    opened = open_run(run)
    ref = compose.resolve(opened.data["recipe_source"])
    lines = [*overrides_of(opened, {line.partition("=")[0] for line in overrides}), *overrides]
    typed = _running.checked(ref, lines)
    drift = list(_drift(opened.data, typed, Path(run)))
    console = Console(quiet=quiet)
    if drift and not accept_drift:
        raise UserError(drift)
    for problem in drift:
        console.line(f"note: {problem.fact}: {problem.cause}")
    folder = typed.run_dir or default_run_dir(ref.name)
    options = Options(
        source=opened.data["recipe_source"],
        overrides=tuple(lines),
        accept_drift=accept_drift,
        drift=tuple(problem.fact for problem in drift),
    )
    data = Runner(typed, options=options, console=console).run(folder)
    console.line()
    _running.score_table(console, data)
    return _compare(opened.data, data, folder)


def _drift(before: dict[str, Any] | Any, typed: Recipe, run: Path) -> Iterator[Problem]:
    from lmgraft import manifest, secrets
    from lmgraft.errors import Problem

    remedy = "check out what it was then, or --accept-drift to go on and have it recorded"
    was = {(part["stage"], part["slot"]): part for part in before["components"]}
    now = {(part["stage"], part["slot"]): part for part in manifest.components(typed)}
    for place in sorted(was.keys() | now.keys()):
        name = ".".join(place)
        if place not in was or place not in now:
            yield Problem(f"{run}: {name} has changed", "a part was added or taken away since", remedy)
            continue
        for key, label in (("name", "part"), ("version", "version"), ("revision", "revision")):
            if was[place][key] != now[place][key]:
                yield Problem(
                    f"{run}: {name} has changed", f"its {label} was {was[place][key]} and is {now[place][key]}", remedy
                )
                break
        else:
            if was[place]["source"].get("package_sha256") != now[place]["source"].get("package_sha256"):
                yield Problem(
                    f"{run}: the code of {name} ({was[place]['name']}) has changed",
                    "its package's files differ from then",
                    remedy,
                )
    for key in sorted(_differing(before["recipe"], secrets.masked(typed.resolved, secrets.known()), "")):
        if not key.startswith(("run.", "store.")):
            yield Problem(f"{run}: the recipe's {key} has changed", "its value differs from then", remedy)


def _differing(was: Any, now: Any, path: str) -> Iterator[str]:
    if isinstance(was, dict) and isinstance(now, dict):
        for key in was.keys() | now.keys():
            yield from _differing(was.get(key), now.get(key), f"{path}.{key}" if path else str(key))
    elif was != now:
        yield path


def _compare(before: Any, after: Any, folder: Path) -> int:
    different = [
        name
        for name, stage in before["stages"].items()
        if stage.get("digest") and after["stages"][name].get("digest") != stage["digest"]
    ]
    equal = len(before["stages"]) - len(different)
    print(f"{folder}: {equal} of {len(before['stages'])} artifacts equal the first run's to the byte")
    if different:
        then, now = before["environment"], after["environment"]
        changed = [key for key in then if then[key] != now.get(key)]
        print(
            f"  different: {', '.join(different)}"
            + (f" (the environment changed too: {', '.join(changed)})" if changed else "")
        )
    return 1 if different else 0
