"""What a worker of the corpus stage does: read units, sketch, apply verdicts, measure groups, write shards.

A job is a function of a workshop and a task; the same code runs in this process and in others. Each job that writes
leaves a whole file or none, so a task is done exactly when its file is there.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lmgraft.artifacts.corpus import CorpusWriter, from_batch, to_batch
from lmgraft.errors import Fault
from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import Verdict
from lmgraft.stages._corpus_crew import Workshop
from lmgraft.stages._corpus_groups import BUCKETS, DROPPED, TRAIN, VALIDATION, Selection, hashes
from lmgraft.stages._corpus_parts import FORMS, PART, Part, PartWriter, as_part, batches
from lmgraft.stages._corpus_tally import Tally, rewritten, sift, sound
from lmgraft.stages._corpus_units import Read
from lmgraft.stages._corpus_verdicts import verdicts_of

__all__ = ["Layout", "Plan", "ReadTask", "ShardTask", "SketchTask", "VerdictTask"]
__all__ += ["apply_verdicts", "content_of", "lay_out", "measure", "read_units", "sketch", "write_shard"]

BATCH_DOCUMENTS = 512
BATCH_CHARACTERS = 4 << 20


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReadTask:
    read: Read
    filters: tuple[str, ...]
    folder: Path

    @property
    def what(self) -> str:
        return f"reading {self.read.units[0].id!r} of source {self.read.source!r}"


def read_units(workshop: Workshop, task: ReadTask) -> Part:
    """Reads a run of units through the leading row-wise filters into a part."""
    source = task.read.source
    tallies = {name: Tally(name) for name in task.filters}
    part = Part(task.read.name, source, read={"documents": 0, "bytes": 0, "repaired": 0})
    with PartWriter(task.folder, part) as writer:
        for batch in _batched(_documents(workshop, task.read, part.read)):
            workshop.alive()
            kept = sift(batch, [(name, workshop.filter(name)) for name in task.filters], tallies)
            if kept.documents:
                writer.write(as_part(to_batch(kept.documents, source)))
        part.tallies = list(tallies.values())
    return part


def _documents(workshop: Workshop, read: Read, count: dict[str, int]) -> Iterator[Document]:
    source = workshop.source(read.source)
    for unit in read.units:
        for document in source.read(unit, 0):
            checked = _checked(document, read.source, count)
            count["documents"] += 1
            text = checked.text
            count["bytes"] += len(text) if text is not None and text.isascii() else checked.length()
            yield checked


def _checked(document: Document, source: str, count: dict[str, int]) -> Document:
    """The document under its full id, in a group, with text that UTF-8 can hold."""
    pair = (document.prompt, document.chosen, document.rejected)
    if not (document.id and _one_form(document)):
        raise Fault(
            f"source {source!r} gave document {document.id!r}, which is not exactly one of text, messages and "
            "chosen/rejected after a prompt or messages, or has no id"
        )
    name = f"{source}/{sound(document.id)}"
    content: dict[str, Any] = {"text": document.text}
    if document.text is None:
        messages = None if document.messages is None else list(document.messages)
        content = {"messages": messages, **dict(zip(("prompt", "chosen", "rejected"), pair, strict=True))}
    fixed = {key: _repaired(value) for key, value in content.items()}
    count["repaired"] += fixed != content
    return Document(id=name, group=sound(document.group) or name, meta=document.meta, **fixed)


def _one_form(document: Document) -> bool:
    asked = (document.prompt is not None) + (document.messages is not None)
    if document.chosen is not None or document.rejected is not None:
        return document.text is None and asked == 1
    return (document.text is not None) + asked == 1


def _repaired(value: Any) -> Any:
    if isinstance(value, str):
        return sound(value)
    if isinstance(value, Mapping):
        return {key: _repaired(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_repaired(item) for item in value]
    return value


def _batched(documents: Iterator[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document.text or "")
        if len(batch) == BATCH_DOCUMENTS or characters > BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


# --- corpus-wise filters ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SketchTask:
    part: str
    size: int
    start: int
    """The position of the part's first document."""
    filter: str
    parts: Path
    folder: Path

    @property
    def what(self) -> str:
        return f"sketching {self.part} for filter {self.filter!r}"


def sketch(workshop: Workshop, task: SketchTask) -> None:
    """Writes a part's sketches as an Arrow file."""
    own = workshop.filter(task.filter)
    schema = own.schema()
    path = task.folder / f"{task.part}.arrow"
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    start = task.start
    with pa.ipc.new_file(str(unfinished), schema) as writer:
        for batch in batches(task.parts / f"{task.part}.arrow"):
            workshop.alive()
            rows = own.sketch(from_batch(batch), range(start, start + batch.num_rows))
            if not rows.schema.equals(schema):
                raise Fault(f"filter {task.filter!r} sketches ({rows.schema}), its schema() says ({schema})")
            writer.write_batch(rows)
            start += batch.num_rows
    unfinished.replace(path)


@dataclass(frozen=True)
class VerdictTask:
    part: Part
    start: int
    filter: str
    filters: tuple[str, ...]
    """The row-wise filters that follow."""
    parts: Path
    verdicts: Path
    folder: Path

    @property
    def what(self) -> str:
        return f"applying filter {self.filter!r} to {self.part.name}"


def apply_verdicts(workshop: Workshop, task: VerdictTask) -> Part:
    """Reads a part again, applies a corpus-wise filter's verdicts and the row-wise filters after it."""
    tallies = {name: Tally(name) for name in (task.filter, *task.filters)}
    filters = [(name, workshop.filter(name)) for name in task.filters]
    part = Part(task.part.name, task.part.source)
    verdicts = verdicts_of(task.verdicts / f"{part.name}.arrow")
    upcoming = next(verdicts, None)
    start = task.start
    with PartWriter(task.folder, part) as writer:
        for batch in batches(task.parts / f"{part.name}.arrow"):
            workshop.alive()
            mine: dict[int, Verdict] = {}
            while upcoming is not None and upcoming[0] < start + batch.num_rows:
                mine[upcoming[0] - start] = upcoming[1]
                upcoming = next(verdicts, None)
            start += batch.num_rows
            kept = _judged(batch, mine, task.filter, tallies[task.filter])
            if filters and kept.num_rows:
                kept = _sifted(kept, filters, tallies)
            writer.write(kept)
        part.tallies = list(tallies.values())
    return part


def _judged(batch: pa.RecordBatch, verdicts: Mapping[int, Verdict], name: str, tally: Tally) -> pa.RecordBatch:
    tally.seen += batch.num_rows
    dropped: list[int] = []
    texts: dict[int, str] = {}
    for row, verdict in verdicts.items():
        if verdict.counts or verdict.note:
            tally.remark(verdict, batch.column("id")[row].as_py())
        if not verdict.keep:
            tally.drop(verdict.reason, partial(_row, batch, row))
            dropped.append(row)
        elif verdict.text is not None or verdict.cuts:
            text = rewritten(name, _row(batch, row), verdict)
            if text is not None:
                texts[row] = text
    tally.rewritten += len(texts)
    return _take(batch, np.setdiff1d(np.arange(batch.num_rows), dropped), texts)


def _row(batch: pa.RecordBatch, row: int) -> Document:
    return from_batch(batch.slice(row, 1))[0]


def _sifted(batch: pa.RecordBatch, filters: Sequence[tuple[str, Any]], tallies: Mapping[str, Tally]) -> pa.RecordBatch:
    kept = sift(from_batch(batch), filters, tallies)
    texts = {
        row: document.text or "" for row, document in zip(kept.rows, kept.documents, strict=True) if row in kept.changed
    }
    return _take(batch, np.asarray(kept.rows, np.int64), texts)


def _take(batch: pa.RecordBatch, rows: np.ndarray[Any, np.dtype[np.int64]], texts: Mapping[int, str]) -> pa.RecordBatch:
    """These rows of a batch, some with another text."""
    taken = batch if len(rows) == batch.num_rows else batch.take(pa.array(rows))
    if not texts:
        return taken
    column = taken.column("text").to_pylist()
    for place, row in enumerate(rows.tolist()):
        if row in texts:
            column[place] = texts[row]
    columns = dict(zip(taken.schema.names, taken.columns, strict=True)) | {"text": pa.array(column, pa.string())}
    return as_part(pa.record_batch(list(columns.values()), schema=PART))


# --- groups and shards ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """A part and the selection to lay over it."""

    part: Part
    parts: Path
    selection: Selection
    holdout: bool = False
    """Measure the order of holding out, among the groups taken, instead of the order of taking."""

    @property
    def what(self) -> str:
        return f"measuring {self.part.name}"


def measure(workshop: Workshop, task: Layout) -> np.ndarray[Any, np.dtype[np.int64]]:
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
            sizes[split].append(batch.column("size").to_numpy()[fates == split])
            plan.characters[split] += int(characters[fates == split].sum())
        plan.form |= int(np.bitwise_or.reduce(form[fates != DROPPED], initial=0))
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


@dataclass(frozen=True)
class ShardTask:
    path: Path
    split: int
    pieces: tuple[tuple[str, int, int], ...]
    """(part, first, stop): rows of the split, counted within the part."""
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
        for name, first, stop in task.pieces:
            seen = 0
            for batch in batches(task.parts / f"{name}.arrow"):
                rows = np.flatnonzero(task.selection.fates(batch) == task.split)
                mine = rows[max(0, first - seen) : max(0, stop - seen)]
                seen += len(rows)
                if len(mine):
                    writer.write(batch if len(mine) == batch.num_rows else batch.take(pa.array(mine)))


def content_of(form: int) -> Collection[str]:
    return frozenset(name for name, bit in FORMS.items() if form & bit)
