"""Rows that an objective encodes itself: chats, preference pairs. One unit a document, one sequence or more a unit.

They lie in an Arrow file in the stage's work folder (:mod:`lmgraft.training.laying`), which is mapped and not read:
memory is some 40 bytes a row. The order of units is a function of (seed, step), as the packed loader's is, so a run
resumes at any step and any number of ranks reads the same batches. Units are whole in every microbatch; sequences stand
at the left, padded at the right to the longest of their microbatch. (:mod:`lmgraft.training.packing` lays several into
one sequence instead.)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from lmgraft.seams.objective import Batch
from lmgraft.training.laying import notes
from lmgraft.training.loader import NOTHING, Ints, permute

__all__ = ["ExampleLoader", "Examples", "Sequences", "share"]


class Sequences(Protocol):
    """What is shuffled: units of rows, or sequences that several rows share."""

    def __len__(self) -> int:
        """How many an epoch has."""
        ...

    def unit_tokens(self, units: Ints) -> Ints:
        """Predicted positions of each."""
        ...

    def batch(self, units: Ints) -> Batch:
        """These, one after the other; :data:`NOTHING` gives a row of padding."""
        ...


class Examples:
    """An encoded file, mapped: sequences by number, units as ranges of sequences."""

    def __init__(self, path: Path, pad_id: int) -> None:
        self.pad_id = pad_id
        self.names: list[str] = json.loads(notes(path).read_text(encoding="utf-8"))["values"]
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        blocks = table.to_batches()
        self._blocks = [_views(block) for block in blocks]
        self._edges = np.cumsum([0, *(block.num_rows for block in blocks)])
        units = table.column("unit").to_numpy()
        self.starts = np.concatenate([np.flatnonzero(np.diff(units, prepend=-1)), [len(units)]]).astype(np.int64)
        """(units + 1,) where the sequences of each unit begin."""
        self.roles = table.column("role").to_numpy()
        lengths = [np.diff(block[0]) for block in self._blocks]
        self.lengths = np.concatenate(lengths) if lengths else np.zeros(0, np.int64)
        """(sequences,) tokens of each, the first one included."""
        self._ends = np.cumsum(np.concatenate([[0], self.lengths - 1]))
        self._documents = table.column("document")

    def __len__(self) -> int:
        """Units."""
        return len(self.starts) - 1

    def document(self, sequence: int) -> str:
        return str(self._documents[sequence].as_py())

    def sequence(self, number: int) -> tuple[NDArray[np.int32], NDArray[np.float32], list[float]]:
        """(tokens, weights, values) of one sequence; views into the file."""
        index = int(np.searchsorted(self._edges, number, side="right")) - 1
        (offsets, tokens, weights, values), row = self._blocks[index], number - int(self._edges[index])
        start, end = int(offsets[row]), int(offsets[row + 1])
        width = len(self.names)
        return tokens[start:end], weights[start:end], values[row * width : (row + 1) * width].tolist()

    def unit_tokens(self, units: Ints) -> Ints:
        """Predicted positions of each unit."""
        whole: Ints = self._ends[self.starts[units + 1]] - self._ends[self.starts[units]]
        return whole

    def batch(self, units: Ints) -> Batch:
        """The sequences of ``units``, one after the other; :data:`NOTHING` gives a row of padding of no unit.

        ``Batch.unit`` counts within the batch: the same document may come twice where an epoch ends in it.
        """
        rows = [(place, number) for place, unit in enumerate(units.tolist()) for number in self._numbers(unit)]
        held = [self.sequence(number) if number != NOTHING else None for _, number in rows]
        width = max([len(row[0]) - 1 for row in held if row is not None], default=1)
        shape = (len(rows), width)
        tokens = np.full(shape, self.pad_id, np.int64)
        targets = np.full(shape, -1, np.int64)
        weights = np.zeros(shape, np.float32)
        segments = np.full(shape, -1, np.int64)
        for line, row in enumerate(held):
            if row is None:
                continue
            size = len(row[0]) - 1
            tokens[line, :size], targets[line, :size] = row[0][:-1], row[0][1:]
            weights[line, :size] = row[1][1:]
            segments[line, :size] = 0
        return Batch(
            tokens=torch.from_numpy(tokens),
            targets=torch.from_numpy(targets),
            weights=torch.from_numpy(weights),
            positions=torch.from_numpy(np.where(segments >= 0, np.arange(width), 0)),
            segments=torch.from_numpy(segments),
            unit=torch.tensor([place if number != NOTHING else -1 for place, number in rows]),
            role=torch.tensor([int(self.roles[number]) if number != NOTHING else 0 for _, number in rows]),
            values=self._values([row[2] if row is not None else None for row in held]),
        )

    def some(self, width: int, max_tokens: int) -> Iterator[Batch]:
        """Batches of ``width`` units at a time of :meth:`spread`."""
        chosen = self.spread(max_tokens)
        for start in range(0, len(chosen), width):
            yield self.batch(chosen[start : start + width])

    def spread(self, max_tokens: int) -> Ints:
        """Units spread evenly over the file, of about ``max_tokens`` predictions in all: the same ones each time."""
        total = int(self._ends[-1])
        count = max(1, min(len(self), len(self) * max_tokens // max(total, 1)))
        return np.arange(count) * len(self) // count

    def _numbers(self, unit: int) -> list[int]:
        return [NOTHING] if unit == NOTHING else list(range(int(self.starts[unit]), int(self.starts[unit + 1])))

    def _values(self, rows: list[list[float] | None]) -> Mapping[str, torch.Tensor]:
        return {
            name: torch.tensor([row[index] if row is not None else 0.0 for row in rows], dtype=torch.float32)
            for index, name in enumerate(self.names)
        }


def _views(block: pa.RecordBatch) -> tuple[NDArray[Any], ...]:
    """(where each sequence begins, tokens, weights, values) of a record batch: views into the file."""
    tokens, weights, values = (block.column(name) for name in ("tokens", "weights", "values"))
    return tokens.offsets.to_numpy(), tokens.values.to_numpy(), weights.values.to_numpy(), values.values.to_numpy()


class ExampleLoader:
    """The batches of a run over rows: step s reads units ``s * batch .. (s + 1) * batch - 1`` of shuffled epochs."""

    def __init__(self, examples: Sequences, batch: int, seed: int) -> None:
        self.examples = examples
        self.batch = batch
        self.seed = seed

    def units(self, step: int) -> Ints:
        """The units (batch,) of a step, over all ranks."""
        size = len(self.examples)
        epochs, places = np.divmod(step * self.batch + np.arange(self.batch), size)
        result = np.empty(self.batch, dtype=np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            result[here] = permute(places[here], size, self.seed, int(epoch))
        return result

    def tokens(self, step: int) -> int:
        """Predicted positions of a step, over all ranks, padding apart."""
        return int(self.examples.unit_tokens(self.units(step)).sum())

    def microbatches(self, step: int, rank: int = 0, size: int = 1, micro_batch: int | None = None) -> list[Batch]:
        """Rank r takes units r, r + size, ..., ``micro_batch`` (None: all) at a time, evened out with padding."""
        mine = share(self.units(step), rank, size)
        width = micro_batch or len(mine)
        return [self.examples.batch(mine[start : start + width]) for start in range(0, len(mine), width)]


def share(units: Ints, rank: int, size: int) -> Ints:
    """Every ``size``-th unit from ``rank`` on; all shares are equally long, evened out with :data:`NOTHING`."""
    mine = np.full(-(-len(units) // size), NOTHING, dtype=np.int64)
    own = units[rank::size]
    mine[: len(own)] = own
    return mine
