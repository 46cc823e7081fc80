"""Counts of a text in tokens, and where two tokenizers cut it differently."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lmgraft.artifacts.tokenizer import pieces

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lmgraft.tokenview.view import Token, View

__all__ = ["Comparison", "Figures", "blocks", "differing", "is_kept"]

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


class Comparison:
    """Whether two tokenizers give the same tokens of a line, for many lines at once.

    Where every token of one vocabulary has the same id in the other, as after an extension, ids are compared
    (``compared == "ids"``). Otherwise the pieces of text are (``"pieces"``), a leading space left aside, for
    vocabularies count their tokens in different orders and put spaces before, behind or beside words.
    """

    def __init__(self, before: View, after: View) -> None:
        self.before, self.after = before, after
        self.compared = "ids" if is_kept(before, after) or is_kept(after, before) else "pieces"
        self._tables: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
        if self.compared == "pieces":
            known: dict[bytes, int] = {}
            self._tables = (_table(before, known), _table(after, known))

    def encode(self, lines: Sequence[str]) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32], bool]]:
        """(ids before, ids after, whether they are the same) of each line, encoded by itself."""
        for old, new in zip(self.before.encode(lines), self.after.encode(lines), strict=True):
            yield old, new, self.same(old, new)

    def same(self, old: NDArray[np.int32], new: NDArray[np.int32]) -> bool:
        if self._tables is None:
            return bool(np.array_equal(old, new))
        return bool(np.array_equal(self._tables[0][old], self._tables[1][new]))


def _table(view: View, known: dict[bytes, int]) -> NDArray[np.int64]:
    """Id -> number of the piece of text, the same in every table made with ``known``."""
    numbers = [known.setdefault(piece.removeprefix(b" ") or piece, len(known)) for piece in view.spelt]
    table = np.array(numbers, dtype=np.int64)
    if view.unknown is not None:
        table[view.unknown] = -1
    return table


def is_kept(old: View, new: View) -> bool:
    """Whether every id of ``old`` has the same piece in ``new``."""
    return (
        old.spelling == new.spelling and old.vocab_size <= new.vocab_size and old.pieces == new.pieces[: old.vocab_size]
    )


def differing(tokens: Sequence[Token], others: Sequence[Token]) -> list[bool]:
    """For each of ``tokens`` whether the other tokens of the same text lack one with its place."""
    places = {(token.start, token.stop) for token in others}
    return [(token.start, token.stop) not in places for token in tokens]
