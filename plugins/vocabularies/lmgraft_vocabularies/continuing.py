"""Byte-pair encoding that goes on where another vocabulary ended.

Sennrich et al. 2016 (arXiv 1508.07909): the pair of neighbours that is most frequent becomes a symbol, again and again.
Ties go to the pair with the lower ids, as in Hugging Face's trainer, whose merges these equal where it starts from the
same symbols. All words lie in one array of symbols with links to their neighbours; a merge touches the places of its
pair only, all at once, so its cost is theirs and not the corpus'.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["continue_bpe"]

Ints = NDArray[np.int64]
_NONE = -1
#: Symbols are numbered below this, so that two of them make one 64-bit key.
_SHIFT = 32
_LOW = (1 << _SHIFT) - 1


def continue_bpe(
    words: Mapping[tuple[int, ...], int],
    names: list[str],
    count: int,
    allowed: Callable[[int, int], bool],
    *,
    least: int = 2,
    known: Container[tuple[int, int]] = (),
) -> Iterator[tuple[int, int]]:
    """Pairs of symbols to merge, in order, until ``count`` new symbols have come of them or no pair is left.

    ``words`` are sequences of symbols with their frequencies; no pair crosses a word. ``names[symbol]`` is what it
    spells; new ones are appended. A pair that spells a symbol which is there becomes that one. A pair is taken where it
    is ``allowed`` and occurs at least ``least`` times; those in ``known`` are merges already and not told again.
    """
    table = _Table(words, allowed)
    symbols = {name: symbol for symbol, name in enumerate(names)}
    told: set[tuple[int, int]] = set()
    most = len(names) + count
    while (key := table.best()) is not None and table.counts[key] >= least:
        pair = key >> _SHIFT, key & _LOW
        name = names[pair[0]] + names[pair[1]]
        if name not in symbols:
            if len(names) == most:
                return
            symbols[name] = len(names)
            names.append(name)
        if pair not in told and pair not in known:
            yield pair
            told.add(pair)
        table.merge(key, symbols[name])


@dataclass
class _Line:
    """All words behind each other: symbols, links, and how often each symbol's word occurs."""

    symbols: Ints
    after: Ints
    before: Ints
    weights: Ints


def _line(words: Mapping[tuple[int, ...], int]) -> _Line:
    lengths = np.fromiter((len(word) for word in words), np.int64, len(words))
    size = int(lengths.sum())
    symbols = np.fromiter((symbol for word in words for symbol in word), np.int64, size)
    weights = np.repeat(np.fromiter(words.values(), np.int64, len(words)), lengths)
    after, before = np.arange(1, size + 1), np.arange(-1, size - 1)
    ends = np.cumsum(lengths[lengths > 0])
    after[ends - 1] = _NONE
    before[np.concatenate([[0], ends[:-1]]).astype(np.int64) if size else ends] = _NONE
    return _Line(symbols, after, before, weights)


class _Table:
    """Counts and places of every pair that may be merged."""

    def __init__(self, words: Mapping[tuple[int, ...], int], allowed: Callable[[int, int], bool]) -> None:
        self._line = _line(words)
        self._allowed = allowed
        self.counts: dict[int, int] = {}
        self._places: dict[int, list[Ints]] = {}
        self._queue: list[tuple[int, int]] = []
        self._add(np.flatnonzero(self._line.after != _NONE))

    def best(self) -> int | None:
        """The most frequent pair, of equal ones the lowest; entries of the queue that are out of date are passed."""
        while self._queue:
            negative, pair = self._queue[0]
            now = self.counts.get(pair, 0)
            if now == -negative:
                return pair
            heapq.heappop(self._queue)
            if now > 0:
                heapq.heappush(self._queue, (-now, pair))
        return None

    def merge(self, pair: int, symbol: int) -> None:
        """Puts ``symbol`` in place of each ``pair``, from left to right where occurrences overlap."""
        line = self._line
        left = self._occurrences(pair)
        right = line.after[left]
        self._remove(_distinct(line.before[left], right[line.after[right] != _NONE]))
        line.symbols[left] = symbol
        line.symbols[right] = _NONE
        follower = line.after[right]
        line.after[left] = follower
        inside = follower != _NONE
        line.before[follower[inside]] = left[inside]
        self.counts.pop(pair, None)
        self._add(_distinct(line.before[left], left[line.after[left] != _NONE]))

    def _occurrences(self, pair: int) -> Ints:
        """The left symbols of the pair, ascending, no two of which share a symbol."""
        line = self._line
        found = np.sort(np.concatenate(self._places.pop(pair)))
        after = line.after[found]
        # The index -1 reads the last symbol, and is ruled out by itself.
        whole = (line.symbols[found] == pair >> _SHIFT) & (after != _NONE) & (line.symbols[after] == pair & _LOW)
        found, after = found[whole], after[whole]
        if pair >> _SHIFT != pair & _LOW or not len(found):
            return found
        joined = np.concatenate([[False], after[:-1] == found[1:]])
        number = np.arange(len(found))
        begin = np.maximum.accumulate(np.where(joined, 0, number))
        return found[(number - begin) % 2 == 0]

    def _keys(self, places: Ints) -> Ints:
        line = self._line
        keys: Ints = (line.symbols[places] << _SHIFT) | line.symbols[line.after[places]]
        return keys

    def _remove(self, places: Ints) -> None:
        for pair, sum_, _, _ in self._grouped(places)[1]:
            if pair in self.counts:
                self.counts[pair] -= sum_

    def _add(self, places: Ints) -> None:
        ordered, groups = self._grouped(places)
        for pair, sum_, start, end in groups:
            if not self._allowed(pair >> _SHIFT, pair & _LOW):
                continue
            self.counts[pair] = now = self.counts.get(pair, 0) + sum_
            self._places.setdefault(pair, []).append(ordered[start:end])
            heapq.heappush(self._queue, (-now, pair))

    def _grouped(self, places: Ints) -> tuple[Ints, list[tuple[int, int, int, int]]]:
        """``places`` by their pair; (pair, summed weight, start, end) of each run in them."""
        if not len(places):
            return places, []
        keys = self._keys(places)
        order = np.argsort(keys, kind="stable")
        ordered, keys = places[order], keys[order]
        starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
        sums = np.add.reduceat(self._line.weights[ordered], starts)
        ends = np.append(starts[1:], len(keys))
        return ordered, list(zip(keys[starts].tolist(), sums.tolist(), starts.tolist(), ends.tolist(), strict=True))


def _distinct(first: Ints, second: Ints) -> Ints:
    joined = np.concatenate([first, second])
    return np.unique(joined[joined != _NONE])
