"""What pins the content of units, and settings that point into a folder which was moved."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmgraft.seams.data_source import Unit

__all__ = ["moved", "pins"]


def pins(units: Sequence[Unit]) -> list[list[Any]]:
    """Of each unit what goes into an action key: id, range, and the file's sha256 or the digest."""
    return [[unit.id, unit.start, unit.end, _content(unit)] for unit in units]


def _content(unit: Unit) -> str | None:
    return unit.digest if unit.path is None else hashlib.sha256(Path(unit.path).read_bytes()).hexdigest()


def moved(value: Any, old: Path, new: Path) -> Any:
    """``value`` with every path below ``old`` written as one below ``new``."""
    if isinstance(value, Mapping):
        return {key: moved(inner, old, new) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [moved(inner, old, new) for inner in value]
    return str(value).replace(str(old), str(new)) if isinstance(value, (str, Path)) else value
