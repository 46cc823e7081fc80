"""What a suite's own methods return, held to what the kit reads: otherwise the source would be blamed for its suite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmgraft.testing.outcome import Nonconforming

__all__ = ["distinct_texts", "listed", "pointing"]


def pointing(place: str, found: Any, folder: Path) -> Mapping[str, Any] | None:
    """The settings that ``write`` or ``break_input`` returned; ``place`` is ``CLASS.METHOD``."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    remedy = 'end it with the settings that point at the files: return {"path": str(folder)}'
    if found is not None and (not isinstance(found, Mapping) or not all(isinstance(key, str) for key in found)):
        raise Nonconforming(
            f"{place}() returns a {type(found).__name__}",
            f"it gave {_short(found)}; the kit wants a mapping, setting -> value",
            remedy,
        )
    if not found and files:
        raise Nonconforming(
            f"{place}() writes {', '.join(files[:3])} and returns no settings",
            f"it returned {found!r}, so nothing tells the source where they lie",
            remedy,
        )
    return found


def distinct_texts(place: str, found: Any) -> list[str]:
    """The texts of ``texts_for``."""
    texts = listed(place, found)
    twice = next((text for text, count in Counter(texts).items() if count > 1), None)
    if twice is not None:
        raise Nonconforming(
            f"{place}() gives {_short(twice)} twice", "texts are told apart by what they say", "give distinct texts"
        )
    return texts


def listed(place: str, found: Any) -> list[str]:
    """The texts that a method of the suite gave."""
    wrong = found if isinstance(found, (str, bytes)) or not isinstance(found, (list, tuple)) else None
    if wrong is not None or found is None:
        raise Nonconforming(
            f"{place}() returns a {type(found).__name__}", f"it gave {_short(found)}", "return a list of texts"
        )
    other = next((one for one in found if not isinstance(one, str)), None)
    if other is not None:
        raise Nonconforming(
            f"{place}() returns a {type(other).__name__} among its texts", f"it gave {_short(other)}", "give text alone"
        )
    return list(found)


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
