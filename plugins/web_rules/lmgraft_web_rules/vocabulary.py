"""Words of texts as numbers, so that rules can count them in arrays.

Text is cut at white space; each piece is split into words once, and looked up from then on (a few thousand pieces make
up most of any text). A word is a number; columns give its length and what else rules ask. The words of a batch's texts
are kept for the next filter. All of this is one table for each splitter in a process, started anew when it grows
beyond its bounds; no verdict depends on it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lmgraft_web_rules.characters import SENTENCE_ENDS, SYMBOLS
from lmgraft_web_rules.plugin import WordSplitter

__all__ = ["BASE", "Vocabulary", "Words", "powers", "vocabulary"]

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

MOST_PIECES = 1 << 18
MOST_CHARACTERS = 1 << 24
"""Of all pieces in the table, and of all texts whose words are kept for the next filter."""

#: Any odd number will do: strings are compared as polynomials at this point, modulo 2 ** 64.
BASE = 0x9E3779B97F4A7C15

#: A piece with the space that merely parts it from the next, or white space beyond that.
_RUNS = re.compile(r"(\S+) ?|(\s+)")
_powers = np.ones(1, np.uint64)
_shared: dict[WordSplitter, Vocabulary] = {}


def powers(count: int) -> Hashes:
    """``BASE ** 0 ... BASE ** (count - 1)`` modulo 2 ** 64."""
    global _powers
    if len(_powers) < count:
        factors = np.full(max(count, 2 * len(_powers)), BASE, np.uint64)
        factors[0] = 1
        _powers = np.cumprod(factors)
    return _powers[:count]


def vocabulary(words: WordSplitter) -> Vocabulary:
    """The process's table for a splitter."""
    if words not in _shared:
        if words is WordSplitter.spacy:
            from lmgraft_web_rules.split_spacy import splitter
        else:
            from lmgraft_web_rules.split_fast import splitter
        _shared[words] = Vocabulary(splitter())
    return _shared[words]


@dataclass(frozen=True)
class Words:
    """The words of several texts, one text after another."""

    ids: Ints
    """Every word's number."""
    ends: Ints
    """Where each text's words end; they start where those of the text before end."""

    @property
    def starts(self) -> Ints:
        return np.concatenate(([0], self.ends[:-1]))

    def sums(self, values: npt.NDArray[Any]) -> Ints:
        """For each text the sum of its words' values."""
        total = np.concatenate(([0], np.cumsum(values, dtype=np.int64)))
        return total[self.ends] - total[self.starts]


class Vocabulary:
    """Words and their columns, for one splitter."""

    def __init__(self, split: Callable[[str], list[str]]) -> None:
        self._split = split
        self._clear()

    def _clear(self) -> None:
        self._pieces = _Pieces(self._piece)
        self._patterns = _Patterns(self._pattern)
        self._numbers: dict[str, int] = {}
        self._texts: dict[str, Ints] = {}
        self._characters = self._piece_characters = 0
        self.strings: list[str] = []
        """Every word, by its number."""
        self._firsts, self._counts, self._pool = _Column(np.int64), _Column(np.int64), _Column(np.int64)
        self._lengths, self._hashes = _Column(np.int64), _Column(np.uint64)
        self._word, self._alpha = _Column(np.bool_), _Column(np.bool_)

    # --- columns, by a word's number ----------------------------------------------------------------------------------

    @property
    def lengths(self) -> Ints:
        """Characters."""
        return self._lengths.values

    @property
    def hashes(self) -> Hashes:
        """The characters as a polynomial at BASE, modulo 2 ** 64."""
        return self._hashes.values

    @property
    def word(self) -> npt.NDArray[np.bool_]:
        """Whether there is a character that is no symbol."""
        return self._word.values

    @property
    def alpha(self) -> npt.NDArray[np.bool_]:
        """Whether there is a letter."""
        return self._alpha.values

    # --- texts --------------------------------------------------------------------------------------------------------

    def words(self, texts: Sequence[str]) -> Words:
        """The words of texts. The numbers hold until the next call with other texts."""
        if len(self._pieces) > MOST_PIECES or self._piece_characters > MOST_CHARACTERS:
            self._clear()
        if self._characters > MOST_CHARACTERS:
            self._texts.clear()
            self._characters = 0
        missing = [text for text in dict.fromkeys(texts) if text not in self._texts]
        if missing:
            self._learn(missing)
        found = [self._texts[text] for text in texts]
        ids = np.concatenate(found) if found else np.empty(0, np.int64)
        return Words(ids, np.cumsum([len(own) for own in found], dtype=np.int64))

    def listed(self, ids: Iterable[int]) -> list[str]:
        """The words themselves."""
        return list(map(self.strings.__getitem__, ids))

    def sentences(self, line: str) -> int:
        """Sentences of a line: one, and one more wherever a word follows what ends a sentence (quotes and brackets
        after it still belong to it)."""
        pieces = line.split()
        pattern = "".join(map(self._patterns.__getitem__, pieces))
        if "  " in line or " ".join(pieces) != line:  # white space beyond single spaces counts as a word of its own
            pattern = "".join(map(self._patterns.__getitem__, _with_spaces(line)))
        return pattern.count("PN") + 1

    def _learn(self, texts: Sequence[str]) -> None:
        number, pieces, counts = self._pieces.__getitem__, list[int](), []
        for text in texts:
            before = len(pieces)
            pieces.extend(map(number, text.split()))
            counts.append(len(pieces) - before)
        self._fill()
        of = np.array(pieces, np.int64)
        widths = self._counts.values[of]
        ends = np.cumsum(widths)
        at = np.arange(ends[-1] if len(ends) else 0) + np.repeat(self._firsts.values[of] - (ends - widths), widths)
        ids = self._pool.values[at]
        bounds = np.concatenate(([0], ends))[np.concatenate(([0], np.cumsum(counts)))]
        for text, start, end in zip(texts, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            self._texts[text] = ids[start:end]
            self._characters += len(text)

    def _piece(self, piece: str) -> int:
        """The number of a piece that was never seen: its words are listed, their columns come later."""
        words = self._split(piece)
        numbers, strings, pool = self._numbers, self.strings, self._pool.new
        for word in words:
            number = numbers.get(word)
            if number is None:
                number = numbers[word] = len(strings)
                strings.append(word)
            pool.append(number)
        self._counts.new.append(len(words))
        self._piece_characters += len(piece)
        return len(self._pieces)

    def _fill(self) -> None:
        """The columns of pieces and words that are new."""
        if self._counts.new:
            counts = np.array(self._counts.new, np.int64)
            self._firsts.new.extend((np.cumsum(counts) - counts + len(self._pool.values) - counts.sum()).tolist())
        new = self.strings[len(self._lengths.values) :]
        if not new:
            return
        self._lengths.new.extend(map(len, new))
        self._word.new.extend(not SYMBOLS.issuperset(word) for word in new)
        self._alpha.new.extend(word.isalpha() or any(map(str.isalpha, word)) for word in new)
        codes = np.frombuffer("".join(new).encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
        lengths = self._lengths.values[-len(new) :]
        starts = np.cumsum(lengths) - lengths
        places = np.arange(len(codes)) - np.repeat(starts, lengths)
        # A code is raised by one, or else NUL characters would be nothing.
        terms = (codes + np.uint64(1)) * powers(int(lengths.max()))[places]
        self._hashes.new.extend(np.add.reduceat(terms, starts))

    def _pattern(self, piece: str) -> str:
        """A piece's words for counting sentences: P ends one, N is a word that begins one, punctuation is nothing."""
        if len(self._patterns) > MOST_PIECES:
            self._patterns.clear()
        return "".join(map(_kind, [piece] if piece.isspace() else self._split(piece)))


class _Pieces(dict[str, int]):
    """Asks for what it lacks; a hit costs no call of Python code."""

    def __init__(self, make: Callable[[str], int]) -> None:
        self._make = make

    def __missing__(self, piece: str) -> int:
        self[piece] = number = self._make(piece)
        return number


class _Patterns(dict[str, str]):
    def __init__(self, make: Callable[[str], str]) -> None:
        self._make = make

    def __missing__(self, piece: str) -> str:
        self[piece] = pattern = self._make(piece)
        return pattern


class _Column:
    """An array that grows: ``new`` takes what is still to be added."""

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self._data: npt.NDArray[Any] = np.empty(1024, dtype)
        self._filled = 0
        self.new: list[Any] = []

    @property
    def values(self) -> npt.NDArray[Any]:
        if self.new:
            size = self._filled + len(self.new)
            if size > len(self._data):
                grown = np.empty(max(size, 2 * len(self._data)), self._data.dtype)
                grown[: self._filled] = self._data[: self._filled]
                self._data = grown
            self._data[self._filled : size] = self.new
            self._filled = size
            self.new.clear()
        return self._data[: self._filled]


def _kind(word: str) -> str:
    if word in SENTENCE_ENDS:
        return "P"
    return "" if all(unicodedata.category(character)[0] == "P" for character in word) else "N"


def _with_spaces(line: str) -> list[str]:
    """The pieces of a line, and its runs of white space less the one space that merely parts two pieces."""
    pieces: list[str] = []
    for piece, space in _RUNS.findall(line):
        pieces.append(piece or space)
    return pieces
