"""Lines and paragraphs that were there before, and their characters."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["repeated"]


def repeated(parts: Sequence[str]) -> tuple[int, int]:
    """How many parts equal one before them, and the characters in those."""
    seen = set(parts)
    if len(seen) == len(parts):
        return 0, 0
    # Each different part stands once for what is not repeated.
    return len(parts) - len(seen), sum(map(len, parts)) - sum(map(len, seen))
