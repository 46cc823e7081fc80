"""From fingerprints that occur twice to the spans that are repeated, exactly.

Fingerprints come sorted by hash, then by what is around them. Of those that have everything around them in common (the
copies of a page), all but the first are repeats without another look, so that a million copies cost no more than a
sort. For the others every span of ``least`` bytes that holds the fingerprint is hashed, and of equal spans the first in
the corpus is found by sorting; where they are too many for memory, a share of the hashes is looked at in each round.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from lmgraft_exact_substring.rolling import U64, Ints, mixed, powers, sums
from lmgraft_exact_substring.store import Texts
from lmgraft_exact_substring.winnowing import Winnow

__all__ = ["Rows", "find"]

#: Fingerprints, one a row: hash, context's hash, position, offset.
Rows = tuple[U64, U64, Ints, Ints]
#: Repeated spans: position, first byte, the byte after the last. They may overlap and come in any order.
Spans = tuple[Ints, Ints, Ints]

SPAN_BYTES = 64
"""Memory of a span while spans are compared."""
LEAST_SPANS = 1 << 14
"""Fewer are never compared at once."""


def find(batches: Iterator[Rows], texts: Texts, winnow: Winnow, memory_mb: int) -> Iterator[Spans]:
    """The spans that stood earlier in the corpus, of fingerprints ascending by all four columns.

    A span is repeated where the same bytes stand in an earlier document, or earlier in this one without overlapping.
    """
    compare = _Compare(texts, winnow, memory_mb)
    copies = _Copies(texts, winnow)
    waiting: list[Rows] = []
    held = 0
    for batch in batches:
        spans, left = copies.take(batch)
        yield spans
        if not len(left[0]):
            continue
        waiting.append(left)
        held += len(left[0])
        if held * winnow.width >= compare.most and waiting[0][0][0] != left[0][-1]:
            rows = _joined(waiting)
            end = int(np.searchsorted(rows[0], rows[0][-1]))  # the last hash may go on in the next batch
            yield from compare.spans(_part(rows, slice(0, end)))
            waiting = [_part(rows, slice(end, None))]
            held = len(waiting[0][0])
    if waiting:
        yield from compare.spans(_joined(waiting))


class _Copies:
    """Takes out what has the same hash and the same context as an earlier fingerprint that it does not overlap."""

    def __init__(self, texts: Texts, winnow: Winnow) -> None:
        self._texts = texts
        self._winnow = winnow
        self._last: Rows = (np.zeros(0, np.uint64),) * 2 + (np.zeros(0, np.int64),) * 2
        """The first row of the last run of equal hashes and contexts."""

    def take(self, rows: Rows) -> tuple[Spans, Rows]:
        """(the spans of copies, the other rows)."""
        carried = len(self._last[0])
        every = key, context, position, offset = _joined([self._last, rows])
        first = np.arange(len(key))
        first[1:][(key[1:] == key[:-1]) & (context[1:] == context[:-1])] = 0
        first = np.maximum.accumulate(first)
        copied = (position != position[first]) | (offset - offset[first] >= self._winnow.least)
        self._last = _part(every, first[-1:])
        others = ~copied
        others[:carried] = False
        _, _, position, offset = _part(every, copied)
        begin, stop = self._texts.bounds(position)
        starts = np.maximum(0, offset + self._winnow.gram - self._winnow.least)
        stops = np.minimum(stop - begin, offset + self._winnow.least)
        return (position, starts, stops), _part(every, others)


class _Compare:
    def __init__(self, texts: Texts, winnow: Winnow, memory_mb: int) -> None:
        self._texts = texts
        self._winnow = winnow
        self.most = max(LEAST_SPANS, memory_mb * (1 << 20) // 4 // SPAN_BYTES)
        """Spans that are compared at once."""

    def spans(self, rows: Rows) -> Iterator[Spans]:
        """Repeated spans of whole groups of equal hashes."""
        key, _, position, offset = rows
        twice = np.zeros(len(key), np.bool_)
        twice[1:] = key[1:] == key[:-1]
        twice[:-1] |= twice[1:]
        position, offset = position[twice], offset[twice]
        order = np.lexsort((offset, position))
        position, offset = position[order], offset[order]
        rounds = -(-len(position) * self._winnow.width // self.most)
        for number in range(rounds):
            hashes, places = self._hashes(position, offset, number, rounds)
            if len(hashes):
                yield self._repeated(hashes, places, position, offset)

    def _hashes(self, position: Ints, offset: Ints, number: int, rounds: int) -> tuple[U64, Ints]:
        """Hashes of the spans around each fingerprint (of the share ``number`` of ``rounds``), and which these are:
        fingerprint * width + the span's place, ascending."""
        width = self._winnow.width
        hashes, places = [], []
        step = max(1, self.most // width // 4)
        for start in range(0, len(position), step):
            part = slice(start, start + step)
            found = self._all_hashes(position[part], offset[part])
            inside = self._inside(position[part], offset[part])
            chosen = np.flatnonzero(inside & (found % np.uint64(rounds) == number))
            hashes.append(found.ravel()[chosen])
            places.append(chosen + start * width)
        return np.concatenate(hashes), np.concatenate(places)

    def _all_hashes(self, position: Ints, offset: Ints) -> U64:
        """(N, width): of the spans from ``offset + gram - least`` on; those that leave the document are any hash."""
        least, gram, width = self._winnow.least, self._winnow.gram, self._winnow.width
        starts = self._texts.bounds(position)[0] + offset + gram - least
        prefix = sums(self._texts.windows(starts, 2 * least - gram))
        found = prefix[:, least:] - prefix[:, :width]
        found *= powers(width)[1][:width]
        # The place counts: only then is the fingerprint that comes first also the span that comes first.
        found += np.arange(width, dtype=np.uint64) * np.uint64(0xA0761D6478BD642F)
        return mixed(found)

    def _inside(self, position: Ints, offset: Ints) -> npt.NDArray[np.bool_]:
        begin, stop = self._texts.bounds(position)
        first = (offset + self._winnow.gram - self._winnow.least)[:, None] + np.arange(self._winnow.width)
        return (first >= 0) & (first + self._winnow.least <= (stop - begin)[:, None])

    def _repeated(self, hashes: U64, places: Ints, position: Ints, offset: Ints) -> Spans:
        width, least = self._winnow.width, self._winnow.least
        order = np.argsort(hashes)
        ordered = hashes[order]
        opens = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        lengths = np.diff(np.append(opens, len(order)))
        first = np.empty_like(order)
        first[order] = np.repeat(np.minimum.reduceat(order, opens), lengths)
        mine, earlier = places // width, places[first] // width
        apart = (position[mine] != position[earlier]) | (offset[mine] - offset[earlier] >= least)
        found = places[apart]
        # Neighbouring spans of one fingerprint are one.
        opened = np.ones(len(found), np.bool_)
        opened[1:] = (found[1:] != found[:-1] + 1) | (found[1:] % width == 0)
        closed = np.append(opened[1:], True)[: len(found)]
        low, high = found[opened], found[closed]
        owner = low // width
        base = offset[owner] + self._winnow.gram - least
        return position[owner], base + low % width, base + high % width + least


def _joined(rows: list[Rows]) -> Rows:
    key, context, position, offset = (np.concatenate(column) for column in zip(*rows, strict=True))
    return key, context, position, offset


def _part(rows: Rows, chosen: slice | npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Rows:
    key, context, position, offset = rows
    return key[chosen], context[chosen], position[chosen], offset[chosen]
