"""The static table: which parts are installed, read from distribution metadata alone. Nothing is imported.

Listing, completion, duplicate detection and version checks come from here, so a plugin that breaks on import can
neither slow down nor break the commands that would help to remove it.
"""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections.abc import Iterable, Iterator
from configparser import ConfigParser
from configparser import Error as ParserError
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from lmgraft.version import DOORS, SEAMS, installed

__all__ = ["PREFIX", "Row", "canonical", "close", "location", "rows", "seams_of", "select"]

PREFIX = "lmgraft."


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


@lru_cache(maxsize=1)
def rows() -> tuple[Row, ...]:
    """Every part of every installed distribution, ordered by seam and name."""
    order = {seam: index for index, seam in enumerate((*SEAMS, *DOORS))}
    found = list(_mark_duplicates(_scan()))
    return tuple(sorted(found, key=lambda row: (order.get(row.seam, 99), row.name, row.distribution)))


def _scan() -> Iterator[Row]:
    seen: set[str] = set()
    for distribution in metadata.distributions():
        text = distribution.read_text("entry_points.txt")
        if not text or f"[{PREFIX}" not in text:
            continue
        name = distribution.metadata["Name"]
        if not name:  # an installation that was broken off leaves such a folder; pip ignores it too
            continue
        if canonical(name) in seen:  # an older copy further down sys.path is shadowed, as it is for import
            continue
        seen.add(canonical(name))
        yield from _rows_of(distribution, name, text)


def _rows_of(distribution: metadata.Distribution, name: str, text: str) -> Iterator[Row]:
    parser = ConfigParser(delimiters=("=",), interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    try:
        parser.read_string(text)
    except ParserError:  # no name can be read from it, and one bad file must not hide the other distributions
        return
    wanted = _incompatible(distribution, name)
    editable = '"editable": true' in (distribution.read_text("direct_url.json") or "")
    for section in parser.sections():
        seam = section.removeprefix(PREFIX)
        if seam == section or seam not in (*SEAMS, *DOORS):
            continue
        for part, module in parser.items(section):
            state, reason = ("incompatible", wanted) if wanted else _module_state(module)
            yield Row(seam, part, name, distribution.version, module, state, reason, editable)


def _incompatible(distribution: metadata.Distribution, name: str) -> str:
    """Why a distribution's own claim excludes this lmgraft; empty where it does not."""
    if name == "lmgraft":
        return ""
    for line in distribution.requires or ():
        if not re.match(r"lmgraft\b(?![-_.])", line, re.IGNORECASE):
            continue
        from packaging.requirements import InvalidRequirement, Requirement

        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            return f"it wants {line!r}, which is no valid requirement"
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        if not requirement.specifier.contains(installed(), prereleases=True):
            return f"it wants {line}, and this is lmgraft {installed()}"
    return ""


@lru_cache(maxsize=256)
def _findable(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _module_state(module: str) -> tuple[str, str]:
    if ":" in module:
        return "broken", f"its entry point names an object, {module}; it must name a module"
    # Only the top package is looked up: finding a submodule would import its parents.
    top = module.partition(".")[0]
    return ("unchecked", "") if _findable(top) else ("broken", f"its package {top} is not on the import path")


def _mark_duplicates(found: Iterable[Row]) -> Iterator[Row]:
    by_name: dict[tuple[str, str], list[Row]] = {}
    for row in found:
        by_name.setdefault((row.seam, row.name), []).append(row)
    for group in by_name.values():
        if len(group) == 1:
            yield group[0]
            continue
        for row in group:
            others = ", ".join(f"{other.distribution} {other.version}" for other in group if other is not row)
            yield Row(
                row.seam, row.name, row.distribution, row.version, row.module, "broken",
                f"the name is also provided by {others}", row.editable,
            )  # fmt: skip


def canonical(name: str) -> str:
    """A distribution's name as pip compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


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
    top = row.module.partition(":")[0].partition(".")[0]
    spec = importlib.util.find_spec(top) if _findable(top) else None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))
