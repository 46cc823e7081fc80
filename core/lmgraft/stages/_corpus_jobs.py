"""What a worker of the corpus stage does first: read units, sketch, apply verdicts.

A job is a function of a workshop and a task; the same code runs in this process and in others. Each job that writes
leaves a whole file or none, so a task is done exactly when its file is there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lmgraft.artifacts.corpus import from_batch, to_batch
from lmgraft.errors import Fault, Problem, UserError
from lmgraft.keyed import by_key, keyed
from lmgraft.seams.data_source import Damaged, Document, Unit, Unreachable, Unreadable
from lmgraft.seams.filter import Verdict
from lmgraft.stages._corpus_crew import Workshop
from lmgraft.stages._corpus_damage import Damage
from lmgraft.stages._corpus_intake import checked
from lmgraft.stages._corpus_parts import PART, Part, PartWriter, as_part, batches
from lmgraft.stages._corpus_tally import Tally, rewritten, sift
from lmgraft.stages._corpus_typed import QUARANTINE
from lmgraft.stages._corpus_units import Read
from lmgraft.stages._corpus_verdicts import verdicts_of

__all__ = ["ReadTask", "SketchTask", "VerdictTask", "apply_verdicts", "read_units", "sketch"]

BATCH_DOCUMENTS = 512
BATCH_CHARACTERS = 4 << 20


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReadTask:
    read: Read
    filters: tuple[str, ...]
    folder: Path
    quarantine: bool = False
    """Count what is damaged and go on, instead of stopping at the first."""

    @property
    def what(self) -> str:
        return f"reading {self.read.units[0].id!r} of source {self.read.source!r}"


def read_units(workshop: Workshop, task: ReadTask) -> Part:
    """Reads a run of units through the leading row-wise filters into a part."""
    source = task.read.source
    tallies = {name: Tally(name) for name in task.filters}
    part = Part(task.read.name, source, read={"documents": 0, "bytes": 0, "repaired": 0})
    damage = Damage() if task.quarantine else None
    with PartWriter(task.folder, part) as writer:
        for batch in _batched(_documents(workshop, task.read, damage)):
            workshop.alive()
            kept = sift(
                checked(batch, source, part.read), [(name, workshop.filter(name)) for name in task.filters], tallies
            )
            if kept.documents:
                writer.write(as_part(to_batch(kept.documents, source)))
        part.tallies = list(tallies.values())
        if damage is not None and damage.reasons:
            damage.write(task.folder, part.name)
            part.damaged = damage.counts()
    return part


def _documents(workshop: Workshop, read: Read, damage: Damage | None) -> Iterator[Document]:
    source = workshop.source(read.source)
    for unit in read.units:
        yield from _sound(source, unit, read.source, damage)


def _sound(source: Any, unit: Unit, name: str, damage: Damage | None) -> Iterator[Document]:
    """A unit's documents. What is damaged ends the stage, or is counted into ``damage``."""
    try:
        for found in _read(source, unit, name):
            if not isinstance(found, Damaged):
                yield found
            elif damage is None:
                raise UserError(_or_counted(by_key(found.problem, "data_source", f"sources.{name}")))
            else:
                damage.passed_over(name, unit, found)
    except UserError as error:
        if damage is None and isinstance(error, Unreadable):
            raise Unreadable(error.reason, _or_counted(error.problems[0]), error.bytes) from error
        if damage is None or isinstance(error, Unreachable):
            raise
        damage.given_up(name, unit, error)


def _or_counted(problem: Problem) -> Problem:
    """The remedy that every damaged input has: to be counted."""
    if QUARANTINE in problem.remedy:
        return problem
    return replace(problem, remedy=f"{problem.remedy}; or let the stage count what is broken: {QUARANTINE}")


def _read(source: Any, unit: Unit, name: str) -> Iterator[Document | Damaged]:
    with keyed("data_source", f"sources.{name}"):
        yield from source.read(unit, 0)


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
