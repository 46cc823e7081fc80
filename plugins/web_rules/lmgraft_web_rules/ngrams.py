"""Repeated n-grams of words in several texts at once: which texts are worth an exact count, and that count.

Nearly all texts repeat little, so that the question is how to see it fast. Every n-gram gets a 64-bit number that
equal n-grams share; sorted, equal ones lie side by side. Texts in which these come to no more than the limit are done
with. The others are counted word by word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lmgraft_web_rules.vocabulary import Vocabulary, Words, powers

__all__ = ["Grams", "dup_characters", "top_characters"]

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

#: Odd numbers with bits spread evenly, for mixing (the finalizer of SplitMix64, Steele et al. 2014).
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_ORDER = np.uint64(0xD1342543DE82EF95)


class Grams:
    """The n-grams of at most 512 texts."""

    def __init__(self, vocabulary: Vocabulary, words: Words) -> None:
        count = len(words.ends)
        self._texts = count
        self._bits = np.uint64(64 - max(1, count - 1).bit_length())
        self._of = np.repeat(np.arange(count), words.ends - words.starts)
        """Which text each word belongs to."""
        lengths = vocabulary.lengths[words.ids]
        self._at = np.concatenate(([0], np.cumsum(lengths)))
        """Where each word begins, in characters, words without spaces; then the end."""
        self._hashes = vocabulary.hashes[words.ids]
        self._mixed: Hashes = _mix(self._hashes)
        self._rolling = (1, self._mixed)
        self._places: tuple[Hashes, Hashes] | None = None

    def top(self, n: int) -> Ints:
        """For each text, the characters in all occurrences of its most frequent n-gram (of equals the first), words
        with a space between; 0 for texts of fewer words. Numbers stand for n-grams: a count to be confirmed."""
        most = np.zeros(self._texts, np.int64)
        starts = self._starts(n)
        if not len(starts):
            return most
        keys = self._keyed(self._words_hash(n)[starts], starts)
        order = np.argsort(keys)
        first = _edges(keys[order])
        counts = np.diff(first, append=len(order))
        begins = starts[np.minimum.reduceat(order, first)]
        # The greatest count, then the earliest beginning.
        rank = (counts << 40) - begins
        texts = self._of[begins]
        bounds = _edges(texts)
        best = np.maximum.reduceat(rank, bounds)
        count = (best + (1 << 40) - 1) >> 40
        begin = (count << 40) - best
        most[texts[bounds]] = count * (self._at[begin + n] - self._at[begin] + n - 1)
        return most

    def dups(self, n: int) -> Ints:
        """For each text, the characters of words in n-grams that were there before (words put together without
        spaces): at least what :func:`dup_characters` counts."""
        most = np.zeros(self._texts, np.int64)
        starts = self._starts(n)
        if not len(starts):
            return most
        keys = self._keyed(self._characters_hash(n)[starts], starts)
        order = np.argsort(keys)
        first = _edges(keys[order])
        if len(first) == len(order):
            return most
        again = np.ones(len(order), np.bool_)
        again[np.minimum.reduceat(order, first)] = False
        found = starts[again]
        cover = np.zeros(len(self._of) + 1, np.int64)
        cover[found] += 1
        cover[found + n] -= 1
        covered = np.cumsum(cover)[:-1] > 0
        lengths = np.diff(self._at)
        most += np.bincount(self._of[covered], lengths[covered], self._texts).astype(np.int64)
        return most

    def _starts(self, n: int) -> Ints:
        """Where the n-grams begin that lie within one text."""
        last = len(self._of) - n + 1
        return np.flatnonzero(self._of[:last] == self._of[n - 1 :]) if last > 0 else np.empty(0, np.int64)

    def _words_hash(self, n: int) -> Hashes:
        """A number for n words in order, each a number of its own; asked for rising n."""
        if self._rolling[0] > n:
            self._rolling = (1, self._mixed)
        size, rolled = self._rolling
        while size < n:
            rolled = rolled[:-1] * _ORDER + self._mixed[size:]
            size += 1
        self._rolling = (size, rolled)
        return rolled

    def _characters_hash(self, n: int) -> Hashes:
        """A number for the characters of n words, wherever the words part them: their polynomial, raised to the same
        power for all."""
        if self._places is None:
            raised = powers(int(self._at[-1]) + 1)
            sums = np.cumsum(self._hashes * raised[self._at[:-1]], dtype=np.uint64)
            self._places = np.concatenate((np.zeros(1, np.uint64), sums)), raised[self._at[-1] - self._at]
        sums, raised = self._places
        return (sums[n:] - sums[:-n]) * raised[: len(sums) - n]

    def _keyed(self, hashes: Hashes, starts: Ints) -> Hashes:
        """The text's number above as many bits of the hash as are left."""
        texts = self._of[starts].astype(np.uint64)
        return (texts << self._bits) | (_mix(hashes) >> (np.uint64(64) - self._bits))


def top_characters(words: Sequence[str], n: int) -> int:
    """The characters in all occurrences of the most frequent n-gram, of equals the first; spaces between its words
    are counted."""
    grams = Counter(" ".join(gram) for gram in zip(*(words[start:] for start in range(n)), strict=False))
    gram, count = grams.most_common(1)[0] if grams else ("", 0)
    return len(gram) * count


def dup_characters(words: Sequence[str], n: int) -> int:
    """The characters of n-grams (words put together) that were there before, from left to right: what is counted is
    stepped over, so that no character counts twice."""
    seen: set[str] = set()
    characters = start = 0
    while start <= len(words) - n:
        gram = "".join(words[start : start + n])
        if gram in seen:
            characters += len(gram)
            start += n
        else:
            seen.add(gram)
            start += 1
    return characters


def _edges(values: npt.NDArray[Any]) -> Ints:
    """Where each run of equal values begins."""
    return np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))


def _mix(hashes: Hashes) -> Hashes:
    mixed = (hashes ^ (hashes >> np.uint64(30))) * _FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    return mixed ^ (mixed >> np.uint64(31))
