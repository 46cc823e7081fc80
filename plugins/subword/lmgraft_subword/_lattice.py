"""All ways to cut many words into pieces, as arrays: sums and best paths over them, a column of all words at a time.

A word of n characters has n + 1 borders; an edge is a piece between two of them. Nothing here depends on an order of a
hash table or on threads, so the same words give the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Lattice", "Words"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Nodes = NDArray[np.int32]
Columns = list[tuple[slice, Ints]]

_NEVER = -1e300


@dataclass(frozen=True)
class Words:
    """Distinct words, one after the other."""

    codes: Ints
    """Numbers of their characters."""
    lengths: Ints
    """Characters of each word."""
    counts: Ints
    """Times each word occurs."""

    @property
    def word(self) -> Ints:
        """For each character, the word that it is in."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @property
    def offset(self) -> Ints:
        """For each character, its place in its word."""
        starts = np.cumsum(self.lengths) - self.lengths
        return np.arange(len(self.codes)) - np.repeat(starts, self.lengths)


class Lattice:
    """The edges of ``words``: ``at`` (the number of the first character), ``size`` and ``piece`` of each.

    Every character of a word must be an edge by itself, so that a path always exists.
    """

    def __init__(self, words: Words, at: Nodes, size: Nodes, piece: Nodes) -> None:
        word, offset = words.word.astype(np.int32), words.offset.astype(np.int32)
        self.words = words
        self.first = np.cumsum(words.lengths + 1) - words.lengths - 1
        self.last = self.first + words.lengths
        self.nodes = int(len(words.codes) + len(words.lengths))
        order = np.lexsort((size, at, offset[at] + size))  # by the column in which an edge ends
        at, size, self.piece = at[order].astype(np.int32), size[order].astype(np.int32), piece[order].astype(np.int32)
        del order
        self.start = at + word[at]  # each word before has one border more than characters
        self.end = self.start + size
        self.begins = offset[at]
        self.ends = self.begins + size
        self.word = word[at]

        self._arrange()

    def _arrange(self) -> None:
        """What a sweep needs: columns of edges, forward as they lie, backward in another order."""
        self._forward = _columns(self.ends, self.end)
        self._order = np.lexsort((self.start, -self.begins))
        self._backward = _columns(-self.begins[self._order], self.start[self._order])

    def keep(self, chosen: NDArray[np.bool_], numbers: Ints, *, are_words: bool = False) -> None:
        """Leaves out the edges of pieces that are not ``chosen``; the others get the numbers ``numbers[piece]``. Where
        the words are the pieces themselves, they go and are renumbered too."""
        kept = chosen[self.piece] & (chosen[self.word] if are_words else True)
        for name in ("start", "end", "begins", "ends", "word", "piece"):
            setattr(self, name, getattr(self, name)[kept])
        self.piece = numbers[self.piece].astype(np.int32)
        if are_words:
            self.first, self.last = self.first[chosen], self.last[chosen]
            self.word = numbers[self.word].astype(np.int32)
        self._arrange()

    def expected(self, scores: Floats, pieces: int) -> Floats:
        """How often each piece occurs in all words, over all cuts by their probability (forward and backward sums)."""
        values = scores[self.piece]
        forward = self._summed(self.first, self.start, self.end, values, self._forward)
        order = self._order
        backward = self._summed(self.last, self.end[order], self.start[order], values[order], self._backward)
        share = np.exp(forward[self.start] + values + backward[self.end] - forward[self.last][self.word])
        return np.bincount(self.piece, weights=share * self.words.counts[self.word], minlength=pieces)

    def best_but_whole(self, scores: Floats) -> Floats:
        """For each word the score of its best cut into two pieces or more."""
        whole = (self.start == self.first[self.word]) & (self.end == self.last[self.word])
        values = np.where(whole, _NEVER, scores[self.piece])
        best = np.full(self.nodes, _NEVER)
        best[self.first] = 0.0
        for edges, borders in self._forward:
            found = best[self.start[edges]] + values[edges]
            best[self.end[edges][borders]] = np.maximum.reduceat(found, borders)
        return best[self.last]

    def _summed(self, roots: Ints, source: Nodes, target: Nodes, values: Floats, columns: Columns) -> Floats:
        """log of the sum over all paths from a root to each border, column by column."""
        sums = np.full(self.nodes, _NEVER)
        sums[roots] = 0.0
        for edges, borders in columns:
            found = sums[source[edges]] + values[edges]
            most = np.maximum.reduceat(found, borders)
            shifted = np.exp(found - np.repeat(most, np.diff(np.append(borders, len(found)))))
            sums[target[edges][borders]] = most + np.log(np.add.reduceat(shifted, borders))
        return sums


def _columns(column: Nodes, target: Nodes) -> Columns:
    """For edges sorted by column, then by target: each column's edges, and where in it a new target begins."""
    starts = np.flatnonzero(np.diff(column, prepend=column[:1] - 1))
    found = []
    for start, stop in zip(starts, [*starts[1:], len(column)], strict=True):
        part = target[start:stop]
        found.append((slice(int(start), int(stop)), np.flatnonzero(np.diff(part, prepend=part[:1] - 1))))
    return found
