"""The last of a worker's jobs: measure groups and sources, lay rows out over the splits, write shards.

Jobs as in :mod:`lmgraft.stages._corpus_jobs`: functions of a workshop and a task, each leaving a whole file or none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lmgraft.artifacts.corpus import CorpusWriter, from_batch
from lmgraft.seams.data_source import Document
from lmgraft.stages._corpus_crew import Workshop
from lmgraft.stages._corpus_groups import BUCKETS, DROPPED, TRAIN, VALIDATION, Ints, Selection, hashes
from lmgraft.stages._corpus_parts import FORMS, Part, batches
from lmgraft.stages._corpus_tally import Tally

__all__ = ["Layout", "Measure", "Piece", "Plan", "ShardTask", "Weighed", "Weighing"]
__all__ += ["bucket_rows", "content_of", "lay_out", "measure", "weigh", "write_shard"]


# --- measuring --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measure:
    """A part whose groups are measured."""

    part: Part
    parts: Path
    selection: Selection
    holdout: bool = False
    """Measure the order of holding out, among the groups taken, instead of the order of taking."""

    @property
    def what(self) -> str:
        return f"measuring {self.part.name}"


def measure(workshop: Workshop, task: Measure) -> Ints:
    """Bytes of text in each of the 65,536 buckets of groups."""
    totals = np.zeros(BUCKETS, np.int64)
    for batch in batches(task.parts / f"{task.part.name}.arrow", ["id", "group", "size"]):
        sizes = batch.column("size").to_numpy()
        if task.holdout:
            sizes = np.where(task.selection.fates(batch) == DROPPED, 0, sizes)
            np.add.at(totals, task.selection.holdout(batch), sizes)
        else:
            np.add.at(totals, task.selection.order(batch), sizes)
    return totals


@dataclass(frozen=True)
class Weighing:
    """A part whose training documents are measured for a mixture, in the mixture's own order."""

    part: Part
    parts: Path
    selection: Selection
    by_document: bool
    """Each document counts one; else its bytes of text."""
    bucket: int = 0
    """Which one :func:`bucket_rows` lists."""

    @property
    def what(self) -> str:
        return f"measuring {self.part.name} for the mixture"


class Weighed(NamedTuple):
    """The training documents of a part, or of a source."""

    documents: int
    bytes: int
    buckets: Ints
    """What the documents of each bucket of the mixture's order count, together: int64 (65536,)."""
    tildes: int = 0
    """The most with which an id ends before a number, as that of a copy does."""

    def plus(self, other: Weighed) -> Weighed:
        buckets, tildes = self.buckets + other.buckets, max(self.tildes, other.tildes)
        return Weighed(self.documents + other.documents, self.bytes + other.bytes, buckets, tildes)


def weigh(workshop: Workshop, task: Weighing) -> Weighed:
    """Counts the training documents of a part."""
    found = Weighed(0, 0, np.zeros(BUCKETS, np.int64))
    for order, sizes in _ordered(task):
        np.add.at(found.buckets, _bucket(order), 1 if task.by_document else sizes)
        found = Weighed(found.documents + len(sizes), found.bytes + int(sizes.sum()), found.buckets)
    return found._replace(tildes=_tildes(task))


def _tildes(task: Weighing) -> int:
    most = 0
    for batch in batches(task.parts / f"{task.part.name}.arrow", ["id"]):
        ends = pc.extract_regex(batch.column("id"), r"(?P<tildes>~+)[0-9]+$").field("tildes")
        most = max(most, pc.max(pc.utf8_length(ends)).as_py() or 0)
    return most


def bucket_rows(workshop: Workshop, task: Weighing) -> tuple[Any, Ints]:
    """The training documents of one bucket, in no order: their hashes, uint64 (rows,), and what they count."""
    places: list[Any] = [np.zeros(0, np.uint64)]
    counts: list[Any] = [np.zeros(0, np.int64)]
    for order, sizes in _ordered(task):
        mine = _bucket(order) == task.bucket
        places.append(order[mine])
        counts.append(np.ones(int(mine.sum()), np.int64) if task.by_document else sizes[mine])
    return np.concatenate(places), np.concatenate(counts)


def _ordered(task: Weighing) -> Iterator[tuple[Any, Ints]]:
    for batch in batches(task.parts / f"{task.part.name}.arrow", ["id", "group", "size"]):
        train = task.selection.fates(batch) == TRAIN
        yield task.selection.mixing(batch)[train], batch.column("size").to_numpy()[train]


def _bucket(order: Any) -> Any:
    return (order >> np.uint64(48)).astype(np.int64)


# --- laying out -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """A part and the selection to lay over it."""

    part: Part
    parts: Path
    selection: Selection
    epoch: int = 1
    """Later ones lay out what a mixture repeats."""

    @property
    def what(self) -> str:
        return f"laying out {self.part.name}"


@dataclass
class Plan:
    """What a part gives to the splits."""

    source: str
    sizes: dict[int, Any]
    """Split -> bytes of its rows, in order."""
    characters: dict[int, int]
    form: int = 0
    held: set[int] = field(default_factory=set)
    """Hashes of the groups held out."""
    dropped: Tally = field(default_factory=lambda: Tally("max_bytes"))


def lay_out(workshop: Workshop, task: Layout) -> Plan:
    """Counts what of a part falls to which split, and how its rows lie."""
    path = task.parts / f"{task.part.name}.arrow"
    sizes: dict[int, list[Any]] = {TRAIN: [], VALIDATION: []}
    plan = Plan(task.part.source, {}, {TRAIN: 0, VALIDATION: 0})
    for number, batch in enumerate(batches(path, ["id", "group", "size", "characters", "form"])):
        fates = task.selection.fates(batch)
        characters, form = batch.column("characters").to_numpy(), batch.column("form").to_numpy()
        for split in (TRAIN, VALIDATION):
            rows = task.selection.rows(batch, fates, split, task.part.source, task.epoch)
            sizes[split].append(batch.column("size").to_numpy()[rows])
            plan.characters[split] += int(characters[rows].sum())
            plan.form |= int(np.bitwise_or.reduce(form[rows], initial=0))
        if task.epoch > 1:
            continue
        held = batch.column("group").filter(pa.array(fates == VALIDATION))
        plan.held.update(hashes(held, task.selection.seed, "validation").tolist())
        plan.dropped.seen += batch.num_rows
        _count_dropped(plan.dropped, path, number, np.flatnonzero(fates == DROPPED).tolist())
    plan.sizes = {split: np.concatenate(found or [np.zeros(0, np.int64)]) for split, found in sizes.items()}
    return plan


def _count_dropped(tally: Tally, path: Path, number: int, rows: Sequence[int]) -> None:
    for row in rows:
        tally.drop("max_bytes", partial(_document, path, number, row))


def _document(path: Path, number: int, row: int) -> Document:
    return from_batch(next(islice(batches(path), number, None)).slice(row, 1))[0]


# --- writing ----------------------------------------------------------------------------------------------------------


class Piece(NamedTuple):
    """Rows of a part that stand together in a shard."""

    part: str
    source: str
    epoch: int
    first: int
    stop: int
    """Counted within the part, over the rows that the split takes in that epoch."""


@dataclass(frozen=True)
class ShardTask:
    path: Path
    split: int
    pieces: tuple[Piece, ...]
    size: int
    content: frozenset[str]
    parts: Path
    selection: Selection

    @property
    def what(self) -> str:
        return f"writing {self.path.name}"


def write_shard(workshop: Workshop, task: ShardTask) -> None:
    """Writes one Parquet shard."""
    with CorpusWriter(task.path, task.content) as writer:
        for piece in task.pieces:
            seen = 0
            for batch in batches(task.parts / f"{piece.part}.arrow"):
                if seen >= piece.stop:
                    break
                fates = task.selection.fates(batch)
                rows = task.selection.rows(batch, fates, task.split, piece.source, piece.epoch)
                mine = rows[max(0, piece.first - seen) : max(0, piece.stop - seen)]
                seen += len(rows)
                if len(mine):
                    taken = batch if len(mine) == batch.num_rows else batch.take(pa.array(mine))
                    writer.write(taken if piece.epoch == 1 else _copied(taken, task.selection.mark, piece.epoch))


def _copied(batch: pa.RecordBatch, mark: str, epoch: int) -> pa.RecordBatch:
    """The same documents under ids of their own, in the same groups."""
    names = pa.array([f"{name}{mark}{epoch}" for name in batch.column("id").to_pylist()], pa.string())
    return batch.set_column(batch.schema.get_field_index("id"), batch.schema.field("id"), names)


def content_of(form: int) -> Collection[str]:
    return frozenset(name for name, bit in FORMS.items() if form & bit)
