"""Where two behaviours part, in a few words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["difference"]


def difference(first: Any, second: Any, where: str = "") -> str:
    """Names the first place at which two nested values differ; empty where they are equal."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        if list(first) != list(second) and set(first) != set(second):
            return f"{where or 'the keys'}: {_short(sorted(map(str, first)))} and {_short(sorted(map(str, second)))}"
        for key in first:
            found = difference(first[key], second[key], f"{where}.{key}" if where else str(key))
            if found:
                return found
        return ""
    if _is_list(first) and _is_list(second):
        for number, (one, other) in enumerate(zip(first, second, strict=False)):
            found = difference(one, other, f"{where}[{number}]")
            if found:
                return found
        return "" if len(first) == len(second) else f"{where or 'the length'}: {len(first)} and {len(second)} entries"
    if first == second or (first != first and second != second):  # nan is equal to nan here
        return ""
    return f"{where or 'the value'}: {_short(first)} and {_short(second)}"


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _short(value: Any) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} bytes of another content"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
