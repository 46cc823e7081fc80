"""Fingerprints by winnowing (Schleimer, Wilkerson and Aiken 2003): few of them, and none that matters is missed.

Of the hashes of all runs of ``gram`` bytes in a span of ``least`` bytes the smallest is a fingerprint, for every span
of that length. Two equal spans choose at the same place, so any two places that share ``least`` bytes or more share a
fingerprint. (Of equal hashes in a span all are taken, where the paper takes the last.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lmgraft_exact_substring.rolling import U64, Bytes, Ints, mixed, powers, sums

__all__ = ["Found", "Winnow"]

PIECE = 1 << 16
"""Bytes that are looked at in one call: what numpy makes of them stays in the processor's cache."""


@dataclass(frozen=True)
class Found:
    """Fingerprints: of which document (its place in the batch), where, and hashes of the run and of what is around."""

    document: Ints
    offset: Ints
    key: U64
    """Of the ``gram`` bytes at ``offset``, never 0."""
    context: U64
    """Of all spans of ``least`` bytes that hold the run: from ``offset + gram - least`` to ``offset + least``, or
    as far as the document goes."""


class Winnow:
    def __init__(self, least: int) -> None:
        self.least = least
        self.gram = (least + 1) // 2
        self.width = least - self.gram + 1
        """Runs in a span."""
        self._piece = max(PIECE, 8 * least)

    def of_many(self, texts: Sequence[bytes]) -> Iterator[Found]:
        """The fingerprints of all texts; memory holds one piece."""
        places = [place for place, text in enumerate(texts) if len(text) >= self.least]
        run: list[int] = []
        total = 0
        for place in places:
            size = len(texts[place])
            if run and total + size > self._piece:
                yield self._of_run(texts, run)
                run, total = [], 0
            if size > self._piece:
                yield from self._of_one(texts[place], place)
            else:
                run.append(place)
                total += size
        if run:
            yield self._of_run(texts, run)

    def _of_run(self, texts: Sequence[bytes], run: Sequence[int]) -> Found:
        data = np.frombuffer(b"".join(texts[place] for place in run), np.uint8)
        lengths = np.array([len(texts[place]) for place in run], np.int64)
        ends = np.cumsum(lengths)
        whole = np.arange(len(data)) <= np.repeat(ends - self.least, lengths)
        at, keys, prefix = self._chosen(data, whole)
        owner = np.searchsorted(ends, at, side="right")
        begins = (ends - lengths)[owner]
        around = self._context(prefix, at, begins, ends[owner])
        return Found(np.array(run, np.int64)[owner], at - begins, keys, around)

    def _of_one(self, text: bytes, place: int) -> Iterator[Found]:
        """A long text by pieces of spans that start in [first, stop), with as much around as their contexts need."""
        for first in range(0, len(text) - self.least + 1, self._piece):
            stop = min(first + self._piece, len(text) - self.least + 1)
            low, high = max(0, first - self.least), min(len(text), stop + 2 * self.least)
            data = np.frombuffer(text, np.uint8, high - low, low)
            whole = np.zeros(len(data), np.bool_)
            whole[first - low : stop - low] = True
            at, keys, prefix = self._chosen(data, whole)
            begins, ends = np.full(len(at), -low), np.full(len(at), len(text) - low)
            yield Found(np.full(len(at), place), at + low, keys, self._context(prefix, at, begins, ends))

    def _chosen(self, data: Bytes, whole: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> tuple[Ints, U64, U64]:
        """(where fingerprints are, their hashes, prefix sums of the data); ``whole`` marks where spans start that lie
        in one document."""
        prefix = sums(data)
        hashes = prefix[self.gram :] - prefix[: -self.gram]
        hashes *= powers(len(data))[1][: len(hashes)]
        hashes = mixed(hashes) | np.uint64(1)  # 0 stands for a row of text
        lowest = _sliding(np.minimum, hashes, self.width)
        lowest[~whole[: len(lowest)]] = 0
        padding = np.zeros(self.width - 1, np.uint64)
        chosen = _sliding(np.maximum, np.concatenate([padding, lowest, padding]), self.width)
        at = np.flatnonzero(hashes == chosen)
        return at, hashes[at], prefix

    def _context(self, prefix: U64, at: Ints, begins: Ints, ends: Ints) -> U64:
        first = np.maximum(begins, at + self.gram - self.least)
        stop = np.minimum(ends, at + self.least)
        found = prefix[stop] - prefix[first]
        found *= powers(len(prefix))[1][first]
        # How far it goes to either side counts, too: equal bytes that end elsewhere are other spans.
        found += (at - first).astype(np.uint64) * np.uint64(0xA0761D6478BD642F)
        found += (stop - at).astype(np.uint64) * np.uint64(0xE7037ED1A0B428DB)
        return mixed(found)


def _sliding(extreme: np.ufunc, numbers: U64, width: int) -> U64:
    """The extreme of each run of ``width`` numbers, by runs of 1, 2, 4, ... of them; always a new array."""
    have = 1
    while 2 * have <= width:
        numbers = extreme(numbers[:-have], numbers[have:])
        have *= 2
    rest = width - have
    return extreme(numbers[: len(numbers) - rest], numbers[rest:])
