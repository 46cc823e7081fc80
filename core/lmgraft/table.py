"""The static table: which parts are installed, read from distribution metadata alone. Nothing is imported.

Listing, completion, duplicate detection and version checks come from here, so a plugin that breaks on import can
neither slow down nor break the commands that would help to remove it.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lmgraft import distributions
from lmgraft.distributions import PREFIX, Found, Point, canonical
from lmgraft.version import DOORS, GROUPS, SEAMS, installed

__all__ = [
    "PREFIX",
    "Row",
    "canonical",
    "close",
    "faults",
    "folder",
    "listed",
    "location",
    "recipe_packages",
    "rows",
    "seams_of",
    "select",
]


@dataclass(frozen=True, slots=True)
class Row:
    """One promised part: an entry point of one distribution."""

    seam: str
    name: str
    distribution: str
    version: str
    module: str
    """The light module."""
    state: str
    """``unchecked``, ``incompatible`` or ``broken``: as far as metadata tells. ``ok`` only after an import."""
    reason: str = ""
    editable: bool = False
    remedy: str = ""
    """What to do about ``reason``."""


@lru_cache(maxsize=1)
def rows() -> tuple[Row, ...]:
    """Every part of every installed distribution, ordered by seam and name."""
    order = {seam: index for index, seam in enumerate((*SEAMS, *DOORS))}
    promised = list(_mark_duplicates(_promised()))
    return tuple(sorted(promised, key=lambda row: (order[row.seam], row.name, row.distribution)))


@lru_cache(maxsize=1)
def faults() -> tuple[Row, ...]:
    """What is no part and should be said: a distribution that cannot be read (a row without seam and name), entry
    points in a group that is no seam's, a package of recipes that is gone. Apart from :func:`rows`, so that who looks
    for parts finds only parts."""
    return tuple(sorted(_faulty(), key=lambda row: (row.distribution, row.seam, row.name)))


def listed() -> tuple[Row, ...]:
    """Parts and faults: what a person is shown."""
    return (*rows(), *faults())


def _promised() -> Iterator[Row]:
    for one in distributions.found():
        wanted = _incompatible(one)
        for point in one.points:
            if point.group in (*SEAMS, *DOORS):
                state, reason, remedy = wanted or _module_state(point.value, one.name)
                yield _row(one, point, state, reason, remedy)


def _faulty() -> Iterator[Row]:
    for one in distributions.found():
        if one.fault:
            yield Row("", "", one.name, one.version, "", "broken", one.fault, one.editable, one.remedy)
        for point in one.points:
            if point.group not in (*SEAMS, *DOORS, *GROUPS):
                yield _row(one, point, "broken", *_strange_group(point.group, one.name))
            elif point.group == "recipes" and folder(point.value.partition(".")[0]) is None:
                reason = f"its package of recipes {point.value} is not on the import path"
                yield _row(one, point, "broken", reason, f"pip install --force-reinstall {one.name}")


def _row(one: Found, point: Point, state: str, reason: str, remedy: str) -> Row:
    return Row(point.group, point.name, one.name, one.version, point.value, state, reason, one.editable, remedy)


def _strange_group(group: str, distribution: str) -> tuple[str, str]:
    hint = close(group, (*SEAMS, *DOORS, *GROUPS))
    reason = f"its entry-point group {PREFIX}{group} is none of lmgraft {installed()}"
    if not hint:
        return reason, f"pip install --upgrade lmgraft, where a newer one has it; or pip uninstall {distribution}"
    meant = hint.removeprefix("did you mean ").removesuffix("?")
    return (
        f"{reason}; did you mean {PREFIX}{meant}?",
        f'pip install --upgrade {distribution}; its author writes [project.entry-points."{PREFIX}{meant}"]',
    )


def _incompatible(one: Found) -> tuple[str, str, str] | None:
    """Why a distribution's own claim excludes this lmgraft; None where it does not."""
    if one.name == "lmgraft":
        return None
    for line in one.requires:
        if not re.match(r"lmgraft\b(?![-_.])", line, re.IGNORECASE):
            continue
        from packaging.requirements import Requirement

        try:
            requirement = Requirement(line)
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        except ValueError:  # InvalidRequirement, and what a marker raises that compares what cannot be compared
            reason = f"it wants {line!r}, which is no valid requirement"
            return "incompatible", reason, f"pip install --upgrade {one.name}, or tell its author"
        if applies and not requirement.specifier.contains(installed(), prereleases=True):
            reason = f"it wants {line}, and this is lmgraft {installed()}"
            return "incompatible", reason, f"pip install --upgrade {one.name}, or the lmgraft that it wants"
    return None


@lru_cache(maxsize=256)
def _findable(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except Exception:  # no name at all, a package half gone, or a finder of another tool that raises
        return False


def _module_state(module: str, distribution: str) -> tuple[str, str, str]:
    # Only the top package is looked up: finding a submodule would import its parents.
    top = module.partition(".")[0]
    if ":" in module:
        reason = f"its entry point names an object, {module}; it must name a module"
        return "broken", reason, f"pip install --upgrade {distribution}; its author writes {module.partition(':')[0]}"
    if not _findable(top):
        reason = f"its package {top} is not on the import path"
        return "broken", reason, f"pip install --force-reinstall {distribution}"
    return "unchecked", "", ""


def _mark_duplicates(promised: Iterable[Row]) -> Iterator[Row]:
    by_name: dict[tuple[str, str], list[Row]] = {}
    for row in promised:
        by_name.setdefault((row.seam, row.name), []).append(row)
    for group in by_name.values():
        if len(group) == 1:
            yield group[0]
            continue
        for row in group:
            others = ", ".join(f"{other.distribution} {other.version}" for other in group if other is not row)
            reason, remedy = (
                f"the name is also provided by {others}",
                f"pip uninstall {row.distribution} (or the other one)",
            )
            yield dataclasses.replace(row, state="broken", reason=reason, remedy=remedy)


def select(seam: str, name: str) -> list[Row]:
    """All rows that promise this name: none, one, or the distributions that clash."""
    return [row for row in rows() if row.seam == seam and row.name == name]


def seams_of(name: str) -> list[str]:
    """The seams that have a part of this name: for a hint when it was put at the wrong one."""
    return [row.seam for row in rows() if row.name == name]


def close(word: str, words: Iterable[str]) -> str:
    """``did you mean x?`` or an empty string."""
    matches = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return f"did you mean {matches[0]}?" if matches else ""


def location(row: Row) -> Path | None:
    """The folder of a part's top package, found without importing it."""
    return folder(row.module.partition(":")[0].partition(".")[0])


def folder(package: str) -> Path | None:
    """The folder of a top-level package, found without importing it; None for what is no package."""
    spec = importlib.util.find_spec(package) if _findable(package) else None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def recipe_packages() -> list[tuple[str, str]]:
    """(distribution, package) of every entry point under ``lmgraft.recipes``."""
    return [
        (one.name, point.value) for one in distributions.found() for point in one.points if point.group == "recipes"
    ]
