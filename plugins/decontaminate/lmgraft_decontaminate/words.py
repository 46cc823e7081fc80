"""Words of many texts at once, and their n-grams, as 64-bit hashes: all in numpy, about ten operations a character.

A word is what white space separates, lower-cased and without its punctuation and symbols (GPT-3, arXiv:2005.14165,
appendix C: "a lowercase, whitespace delimited word with no punctuation"). A Han character or kana is a word by itself,
since white space does not separate words there.

A word's hash is a polynomial over random 64-bit values of its characters, an n-gram's one over the mixed hashes of its
words; both come from running sums, so that an n-gram costs the same whatever n is (Karp and Rabin 1987). Different
n-grams share a hash with a probability of some 2^-60: against an index of a million n-grams, a trillion words of
training text give about one false match.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

__all__ = ["Words", "grams", "words_of"]

Array = np.ndarray[Any, np.dtype[Any]]

REMOVED, SPACE, LETTER, SINGLE = range(4)
#: Han and kana: a character is a word.
SINGLES = ((0x3041, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF))
#: Above these there are Han characters and marks of format only.
PLANES = 0x20000
#: Characters that are worked on at once; longer texts come in pieces.
PIECE = 1 << 17
CHARACTER_BASE = 0x9E3779B97F4A7C15
WORD_BASE = 0xD1B54A32D192ED03
WHOLE = 1 << 64


@dataclass(slots=True)
class Words:
    """The words of some texts, one text after the other."""

    hashes: Array
    """A word's hash, uint64."""
    starts: Array
    """Its first character, counted in its own text."""
    stops: Array
    """The character after its last."""
    firsts: Array
    """The first word of each text, and one more at the end: text ``t`` has words ``firsts[t]`` to ``firsts[t + 1]``."""

    def texts(self, words: Array) -> Array:
        """The texts that words belong to."""
        return np.searchsorted(self.firsts, words, side="right") - 1


def words_of(texts: Sequence[str]) -> Words:
    """The words of all ``texts``. What they are does not depend on which texts come together."""
    found: list[tuple[Array, Array, Array]] = []
    counts = np.zeros(len(texts), np.int64)
    for run in _runs(texts):
        _hashed(run, found, counts)
    firsts = np.concatenate(([0], np.cumsum(counts)))
    if not found:
        none = np.zeros(0, np.int64)
        return Words(none.astype(np.uint64), none, none, firsts)
    hashes, starts, stops = (np.concatenate(column) for column in zip(*found, strict=True))
    return Words(hashes, starts, stops, firsts)


def grams(words: Array, n: int) -> Array:
    """Hashes of the ``len(words) - n + 1`` runs of ``n`` words; those across the end of a text among them."""
    if len(words) < n:
        return np.zeros(0, np.uint64)
    up, down = _powers(WORD_BASE, len(words))
    sums = np.zeros(len(words) + 1, np.uint64)
    np.cumsum(words * up[: len(words)], out=sums[1:])
    count = len(words) - n + 1
    return _mixed((sums[n:] - sums[:count]) * down[:count] + np.uint64(n))


def _runs(texts: Sequence[str]) -> Iterator[list[tuple[int, int, str]]]:
    """Runs of (text, offset, characters) of ``PIECE`` characters at most; a long text is cut at white space."""
    run: list[tuple[int, int, str]] = []
    size = 0
    for number, text in enumerate(texts):
        for offset, piece in _pieces(text):
            if run and size + len(piece) >= PIECE:
                yield run
                run, size = [], 0
            run.append((number, offset, piece))
            size += len(piece) + 1
    if run:
        yield run


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    start = 0
    while len(text) - start > PIECE:
        end = max(text.rfind(space, start + 1, start + PIECE) for space in " \n")
        end = end if end > start else start + PIECE
        yield start, text[start:end]
        start = end
    yield start, text[start:] if start else text


def _hashed(run: list[tuple[int, int, str]], into: list[tuple[Array, Array, Array]], counts: Array) -> None:
    """Appends hashes, starts and stops of a run's words, and adds up how many words each text has."""
    kinds, values = _tables()
    joined = "\n".join(piece for _, _, piece in run)
    points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
    kind = kinds[points]
    places = np.flatnonzero(kind)
    kind = kind[places]
    inside = kind >= LETTER
    single = kind == SINGLE
    first = inside.copy()
    first[1:] &= ~inside[:-1] | single[1:] | single[:-1]
    begin = np.flatnonzero(first)
    if not len(begin):
        return
    up, down = _powers(CHARACTER_BASE, len(places))
    letters = values[points[places]] * up[: len(places)]
    hashes = _mixed(np.add.reduceat(letters, begin) * down[begin])
    last = inside.copy()
    last[:-1] &= ~inside[1:] | first[1:]
    starts, stops = places[begin], places[np.flatnonzero(last)] + 1
    sizes = np.array([len(piece) + 1 for _, _, piece in run])
    begins = np.cumsum(sizes) - sizes
    words = np.diff(np.searchsorted(starts, begins), append=len(starts))
    shift = np.repeat([offset for _, offset, _ in run] - begins, words)
    into.append((hashes, starts + shift, stops + shift))
    np.add.at(counts, [number for number, _, _ in run], words)


def _mixed(hashes: Array) -> Array:
    """Spreads every bit over all others (the finaliser of SplitMix64, Steele, Lea and Flood 2014)."""
    hashes ^= hashes >> np.uint64(30)
    hashes *= np.uint64(0xBF58476D1CE4E5B9)
    hashes ^= hashes >> np.uint64(27)
    hashes *= np.uint64(0x94D049BB133111EB)
    hashes ^= hashes >> np.uint64(31)
    return hashes


_POWERS: dict[int, tuple[Array, Array]] = {}


def _powers(base: int, count: int) -> tuple[Array, Array]:
    """The powers of ``base`` and of its inverse, modulo 2^64; at least ``count`` of each."""
    held = _POWERS.get(base)
    if held is None or len(held[0]) < count:
        size = 1 << max(12, (count - 1).bit_length())
        held = _POWERS[base] = (_power(base, size), _power(pow(base, -1, WHOLE), size))
    return held


def _power(base: int, count: int) -> Array:
    factors = np.full(count, base, np.uint64)
    factors[0] = 1
    return np.multiply.accumulate(factors)


@lru_cache(maxsize=1)
def _tables() -> tuple[Array, Array]:
    """Of every code point: its kind, and the random value of its lower-case letter (0 for white space)."""
    folded = np.arange(0x110000, dtype=np.uint64)
    kinds = np.full(0x110000, REMOVED, np.uint8)
    for point, letter in enumerate(map(chr, range(PLANES))):
        kind = unicodedata.category(letter)[0]
        if letter.isspace() or kind == "Z":
            kinds[point] = SPACE
        elif kind not in "PSC":
            kinds[point] = LETTER
            if kind == "L" and (low := letter.casefold()) != letter and len(low) == 1:
                folded[point] = ord(low)
    for low_end, high_end in SINGLES:
        part = kinds[low_end : high_end + 1]
        part[(part == LETTER) | (low_end >= PLANES)] = SINGLE
    values = _mixed((folded + np.uint64(1)) * np.uint64(CHARACTER_BASE))
    values[kinds == SPACE] = 0
    return kinds, values
