"""Where two tokenizers differ: in the tokens of a line, and in the places at which they cut a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lmgraft.tokenview.figures import blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lmgraft.tokenview.view import Token, View

__all__ = ["Comparison", "LineCount", "differing", "first_other", "is_kept"]


@dataclass(slots=True)
class LineCount:
    """How many lines there were, and of how many the tokens changed."""

    lines: int = 0
    changed: int = 0


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

    def lines(self, text: str) -> LineCount:
        """Of all lines of ``text``."""
        count = LineCount()
        for block in blocks(text):
            for *_, same in self.encode(block.removesuffix("\n").split("\n")):
                count.lines += 1
                count.changed += not same
        return count

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


def differing(tokens: Sequence[Token], others: Sequence[Token], data: bytes) -> list[bool]:
    """For each of ``tokens`` whether ``others``, tokens of the same text, lack one with its place. ``data`` is the
    text's UTF-8; spaces before a token are left aside, since some tokenizers cut them off."""
    places = {_place(token, data) for token in others}
    return [_place(token, data) not in places for token in tokens]


def _place(token: Token, data: bytes) -> tuple[int, int]:
    own = data[token.start : token.stop]
    spaces = len(own) - len(own.lstrip(b" "))
    return (token.start + spaces if spaces < len(own) else token.start), token.stop


def first_other(old: Path, new: Path) -> tuple[int, str, str] | None:
    """Of two folders of tokenizers the first id that stands for other text, and for which in each; None: there is none.

    Pieces are compared, as far as both go: one that is part of a character decodes to U+FFFD, as all others of that
    kind do.
    """
    from lmgraft.tokenview.view import open_folder

    one, other = open_folder(old), open_folder(new)
    for index, (ours, theirs) in enumerate(zip(one.pieces, other.pieces, strict=False)):
        if one.spelt[index] != other.spelt[index] or (ours != theirs and one.spelling == other.spelling):
            return index, repr(one.shown([index])[0]), repr(other.shown([index])[0])
    return None
