"""What the installed distributions say of themselves, read file by file so that a damaged one hides no other.

``importlib.metadata.entry_points()`` reads all distributions at once and raises at the first line that is none, whoever
wrote it. Here each is read for itself; what cannot be read is a fault of that one, with a remedy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from configparser import ConfigParser
from configparser import Error as ParserError
from dataclasses import dataclass
from email import message_from_string
from functools import lru_cache
from importlib import metadata
from pathlib import Path

__all__ = ["PREFIX", "Found", "Point", "canonical", "found", "named"]

PREFIX = "lmgraft."
#: How a group of ours begins in ``entry_points.txt``; a file without it is not looked at any closer.
_MARK = f"[{PREFIX}"


@dataclass(frozen=True, slots=True)
class Point:
    """One entry point in a group of ours."""

    group: str
    """Without the prefix: ``filter``, ``recipes``."""
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Found:
    """One distribution that has entry points of ours, as far as it can be read."""

    name: str
    version: str
    points: tuple[Point, ...] = ()
    requires: tuple[str, ...] = ()
    """Its requirements, unparsed."""
    editable: bool = False
    fault: str = ""
    """Why its entry points are not known."""
    remedy: str = ""
    """What to do about the fault."""
    named: bool = True
    """False where its own metadata could not tell the name, and the folder's stands for it."""

    def values(self, group: str) -> list[str]:
        """What its entry points in a group name (``recipes``, ``testing``), each once."""
        return list(dict.fromkeys(point.value for point in self.points if point.group == group))


@lru_cache(maxsize=1)
def found() -> tuple[Found, ...]:
    """Every installed distribution with entry points of ours, in the order of the import path."""
    return tuple(_found())


def named(name: str) -> Found | None:
    """The distribution of this name, as pip compares names; None where it is not installed or has no entry points of
    ours."""
    return next((one for one in found() if one.named and canonical(one.name) == canonical(name)), None)


def _found() -> Iterator[Found]:
    seen: set[str] = set()
    for distribution in metadata.distributions():
        one = _read(distribution)
        if one is None:
            continue
        if not one.named:  # it shadows nothing, and nothing shadows it
            yield one
        # An older copy further down sys.path is shadowed, as it is for import.
        elif canonical(one.name) not in seen:
            seen.add(canonical(one.name))
            yield one


def canonical(name: str) -> str:
    """A distribution's name as pip compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _read(distribution: metadata.Distribution) -> Found | None:
    try:
        text = distribution.read_text("entry_points.txt") or ""
        damage = ""
    except UnicodeDecodeError as error:
        text, damage = error.object.decode("latin-1"), str(error)
    except OSError:  # whose entry points it holds cannot be known
        return None
    if _MARK not in text:
        return None
    try:
        # Parsed here: another tool's finder may have put itself before Python's own (`importlib_metadata` does
        # when awkward imports it), and each raises where others say None.
        message = message_from_string(distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or "")
        name, version = message["Name"], message["Version"] or "?"
        # An egg's requirements stand in a file of their own. What has no name is not asked for them.
        requires = tuple(message.get_all("Requires-Dist") or (distribution.requires if name else None) or ())
        editable = '"editable": true' in (distribution.read_text("direct_url.json") or "")
    except Exception as error:  # bytes that are no text, a disk that fails, whatever a finder of another tool raises
        return _nameless(distribution, f"its metadata cannot be read: {_brief(error)}")
    if not name:
        return _nameless(distribution, "its metadata gives no name: it is what an installation or removal left behind")
    try:
        points = () if damage else tuple(_points(text))
    except ParserError as error:
        points, damage = (), str(error)
    if damage:
        fault = f"its entry_points.txt cannot be read: {' '.join(damage.split())}"
        return Found(name, version, (), requires, editable, fault, f"pip install --force-reinstall {name}")
    return Found(name, version, points, requires, editable)


def _points(text: str) -> Iterator[Point]:
    parser = ConfigParser(delimiters=("=",), interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(text, source="it")
    for section in parser.sections():
        if section.startswith(PREFIX):
            for name, value in parser.items(section):
                yield Point(section.removeprefix(PREFIX), name, value)


def _nameless(distribution: metadata.Distribution, fault: str) -> Found:
    """A distribution known by its folder alone; pip knows it no better, so removing the folder is the remedy."""
    folder = Path(str(getattr(distribution, "_path", "an unknown folder")))
    name, _, version = folder.stem.rpartition("-")
    name = name or folder.stem
    return Found(name, version, fault=fault, remedy=f"remove {folder}, and pip install {name} again", named=False)


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
