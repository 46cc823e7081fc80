"""Counts of a text in tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lmgraft.artifacts.tokenizer import pieces

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


__all__ = ["Figures", "blocks"]

#: Characters of text that are encoded at a time.
BLOCK = 1 << 16


@dataclass(slots=True)
class Figures:
    """Sums over some text; add up."""

    bytes: int = 0
    characters: int = 0
    words: int = 0
    """Runs of anything but white space."""
    tokens: int = 0
    unknown: int = 0

    def add(self, text: str, ids: NDArray[np.int32], unknown: int | None) -> None:
        self.bytes += len(text.encode())
        self.characters += len(text)
        self.words += len(text.split())
        self.tokens += len(ids)
        self.unknown += int((ids == unknown).sum()) if unknown is not None else 0

    @property
    def bytes_per_token(self) -> float:
        return self.bytes / self.tokens if self.tokens else 0.0

    @property
    def characters_per_token(self) -> float:
        return self.characters / self.tokens if self.tokens else 0.0

    @property
    def tokens_per_word(self) -> float:
        """Of a language without spaces a whole sentence is a word, and this says nothing."""
        return self.tokens / self.words if self.words else 0.0

    @property
    def unknown_share(self) -> float:
        return self.unknown / self.tokens if self.tokens else 0.0

    def row(self) -> dict[str, Any]:
        """For JSON: the counts and what follows from them."""
        ratios = ("bytes_per_token", "characters_per_token", "tokens_per_word", "unknown_share")
        return asdict(self) | {name: round(getattr(self, name), 6) for name in ratios}


def blocks(text: str, size: int = BLOCK) -> Iterator[str]:
    """``text`` in runs of whole lines of about ``size`` characters; a longer line is cut at a space, or where it has
    none at ``size``. Joined they are ``text``."""
    start = 0
    while start < len(text):
        end = min(len(text), start + size)
        if end < len(text):
            line = text.rfind("\n", start, end) + 1
            end = line or start + len(next(pieces(text[start : start + 2 * size], size // 2)))
            end = min(end, start + size) if not line else end
        yield text[start:end]
        start = end
