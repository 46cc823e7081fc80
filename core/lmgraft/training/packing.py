"""Best-fit packing: rows laid side by side into sequences of one length, none cut, none seeing another.

Rows are taken from the longest to the shortest, each into the fullest sequence that has room for it (best-fit
decreasing; Johnson 1974; for training Krell et al. 2021, arXiv:2107.02027, and Ding et al. 2024, arXiv:2404.10830,
who cut what is longer than a sequence; here nothing is cut). Which rows share a sequence follows from their lengths
alone, so it is the same in every epoch, on every rank and after every resume; the order of the sequences is the keyed
permutation of (seed, epoch) that unpacked rows have.

A sequence's batch is that of packed text: ``segments`` numbers its rows from 0, ``positions`` begin at 0 with each row,
nothing is predicted across a border, and ``unit`` and ``role`` are None. An objective that says ``packable`` sums its
loss over tokens, so the gradient over some rows is the same in whatever sequences they lie.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from lmgraft.seams.objective import Batch
from lmgraft.training.examples import Examples
from lmgraft.training.loader import NOTHING, Ints, permute

__all__ = ["Bins", "PackedExamples", "best_fit", "filled_unpacked"]

#: Rows whose lengths are Python's at a time.
CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Bins:
    """Which rows share a sequence."""

    rows: Ints
    """(rows,) the numbers of all rows, sequence by sequence, in order within each."""
    starts: Ints
    """(sequences + 1,) where each sequence begins in ``rows``."""

    def __len__(self) -> int:
        """Sequences."""
        return len(self.starts) - 1


def best_fit(lengths: Ints, capacity: int) -> Bins:
    """Best-fit decreasing over rows of ``lengths`` (n,), none of which is above ``capacity``.

    O(n log n) for the sort; each row then finds its sequence by the lowest set bit of a number that has one bit for
    each room that is left in some sequence. Of sequences with equal room the newest takes the row. Memory: some 24
    bytes a row.
    """
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    place = array("q", bytes(8 * len(lengths)))
    below = array("q")  # sequences with equal room form a stack: each knows the one below it
    top = [-1] * (capacity + 1)
    rooms = 0
    for start in range(0, len(order), CHUNK):
        part = order[start : start + CHUNK]
        for row, length in zip(part.tolist(), lengths[part].tolist(), strict=True):
            enough = rooms >> length
            if enough:
                room = length + (enough & -enough).bit_length() - 1
                here = top[room]
                top[room] = below[here]
                if top[room] < 0:
                    rooms ^= 1 << room
            else:
                here, room = len(below), capacity
                below.append(-1)
            place[row] = here
            left = room - length
            below[here] = top[left]
            top[left] = here
            rooms |= 1 << left
    where = np.frombuffer(place, dtype=np.int64) if len(lengths) else np.zeros(0, np.int64)
    counts = np.bincount(where, minlength=len(below))
    return Bins(np.argsort(where, kind="stable"), np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


class PackedExamples:
    """The rows of an encoded file in sequences of ``seq_len``: what :class:`~lmgraft.training.examples.ExampleLoader`
    shuffles instead of units."""

    def __init__(self, examples: Examples, seq_len: int, units: Ints | None = None) -> None:
        """``units``: only those; by default all of them."""
        self.examples = examples
        self.seq_len = seq_len
        chosen = np.arange(len(examples)) if units is None else units
        counts = examples.starts[chosen + 1] - examples.starts[chosen]
        first = np.repeat(examples.starts[chosen] - np.cumsum(counts) + counts, counts)
        numbers = first + np.arange(len(first))
        lengths = examples.lengths[numbers] - 1
        bins = best_fit(lengths, seq_len)
        self.bins = Bins(numbers[bins.rows], bins.starts)
        self._tokens = np.concatenate([[0], np.cumsum(lengths[bins.rows])])[bins.starts]

    def __len__(self) -> int:
        """Sequences."""
        return len(self.bins)

    @property
    def filled(self) -> float:
        """The share of all positions that is no padding."""
        return float(self._tokens[-1]) / max(1, len(self) * self.seq_len)

    def unit_tokens(self, units: Ints) -> Ints:
        """Predicted positions of each sequence."""
        held: Ints = self._tokens[units + 1] - self._tokens[units]
        return held

    def batch(self, units: Ints) -> Batch:
        """These sequences as rows of ``seq_len``; :data:`~lmgraft.training.loader.NOTHING` gives a row of padding."""
        shape = (len(units), self.seq_len)
        tokens = np.full(shape, self.examples.pad_id, np.int64)
        targets = np.full(shape, -1, np.int64)
        weights = np.zeros(shape, np.float32)
        positions = np.zeros(shape, np.int64)
        segments = np.full(shape, -1, np.int64)
        for line, unit in enumerate(units.tolist()):
            end = 0
            for segment, number in enumerate(self._rows(unit)):
                ids, marks, _ = self.examples.sequence(number)
                start, end = end, end + len(ids) - 1
                tokens[line, start:end], targets[line, start:end] = ids[:-1], ids[1:]
                weights[line, start:end] = marks[1:]
                positions[line, start:end] = np.arange(end - start)
                segments[line, start:end] = segment
        return Batch(
            tokens=torch.from_numpy(tokens),
            targets=torch.from_numpy(targets),
            weights=torch.from_numpy(weights),
            positions=torch.from_numpy(positions),
            segments=torch.from_numpy(segments),
        )

    def some(self, width: int) -> Iterator[Batch]:
        """All sequences in their order, ``width`` at a time."""
        for start in range(0, len(self), width):
            yield self.batch(np.arange(start, min(start + width, len(self))))

    def _rows(self, unit: int) -> list[int]:
        if unit == NOTHING:
            return []
        numbers: list[int] = self.bins.rows[self.bins.starts[unit] : self.bins.starts[unit + 1]].tolist()
        return numbers


def filled_unpacked(examples: Examples, batch: int, micro_batch: int | None, seed: int) -> float:
    """The share of positions that would be no padding without packing: of the first epoch's microbatches on one rank,
    each padded to its longest sequence."""
    size = len(examples)
    longest = np.maximum.reduceat(examples.lengths - 1, examples.starts[:-1])
    counts = np.diff(examples.starts)
    order = permute(np.arange(size), size, seed, 0)
    positions = 0
    for first in range(0, size, batch):
        whole = order[first : first + batch]
        for start in range(0, len(whole), micro_batch or batch):
            part = whole[start : start + (micro_batch or batch)]
            positions += int(counts[part].sum()) * int(longest[part].max())
    return float((examples.lengths - 1).sum()) / max(1, positions)
