"""Sources through filters, in rounds: row-wise filters share a pass; a corpus-wise one ends it and takes two more.

Every pass leaves part files in the scratch folder and every round a note, so a killed stage goes on from its finished
tasks. Positions, parts and counts depend on the units alone: not on the workers, and not on where it was interrupted.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa

from lmgraft.errors import Fault
from lmgraft.seams.filter import CorpusFilter, RowFilter
from lmgraft.seams.stage import StageContext
from lmgraft.spool import Spool
from lmgraft.stages import _corpus_verdicts as verdicts
from lmgraft.stages._corpus_crew import Crew
from lmgraft.stages._corpus_damage import QUARANTINE, gather
from lmgraft.stages._corpus_jobs import ReadTask, SketchTask, VerdictTask, apply_verdicts, read_units, sketch
from lmgraft.stages._corpus_parts import Part, read_note, write_atomically
from lmgraft.stages._corpus_tally import Tally
from lmgraft.stages._corpus_units import Read

__all__ = ["Pipeline", "Survivors"]


@dataclass
class Survivors:
    """The documents left after a round."""

    folder: Path
    parts: list[Part]
    tallies: list[Tally]
    """Of all filters so far."""
    read: dict[str, dict[str, int]] = field(default_factory=dict)
    """Source -> what it gave: ``documents``, ``bytes``, ``repaired``."""
    damaged: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Source -> what of it could not be read, as :func:`lmgraft.stages._corpus_damage.gather` adds it up."""

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)


@dataclass(frozen=True)
class Round:
    corpus: str | None
    """The corpus-wise filter that opens it; the first round opens with reading."""
    rows: tuple[str, ...]
    """The row-wise filters that follow."""


class Pipeline:
    def __init__(
        self, context: StageContext, crew: Crew, filters: Sequence[str], memory_mb: int, quarantine: bool = False
    ) -> None:
        self._context = context
        self._crew = crew
        self._memory_mb = memory_mb
        self._quarantine = quarantine
        self._rounds = _rounds(crew, filters)

    def run(self, reads: Sequence[Read]) -> Survivors:
        """Does what is still to do and returns what is left of the documents."""
        survivors, finished = self._resume()
        for number in range(finished, len(self._rounds)):
            done = self._read(reads) if survivors is None else self._filter(number, survivors)
            note = {"parts": [asdict(part) | {"tallies": []} for part in done.parts], "read": done.read}
            note["damaged"] = done.damaged
            note["tallies"] = [tally.as_json() for tally in done.tallies]
            write_atomically(self._folder(number) / "done.json", json.dumps(note))
            survivors = done
            self._clear(number)
        assert survivors is not None
        return survivors

    def _folder(self, number: int) -> Path:
        return self._context.work / f"round-{number}"

    def _resume(self) -> tuple[Survivors | None, int]:
        for number in reversed(range(len(self._rounds))):
            path = self._folder(number) / "done.json"
            if path.exists():
                self._clear(number)
                note = json.loads(path.read_text(encoding="utf-8"))
                parts = [Part(**part) for part in note["parts"]]
                tallies = [Tally.from_json(row) for row in note["tallies"]]
                read, damaged = note["read"], note["damaged"]
                return Survivors(self._folder(number) / "parts", parts, tallies, read, damaged), number + 1
        return None, 0

    def _clear(self, number: int) -> None:
        """Frees the disk of what a finished round no longer needs."""
        for earlier in range(number):
            shutil.rmtree(self._folder(earlier), ignore_errors=True)
        for scratch in ("sketch", "sort", "resolve", "verdicts"):
            shutil.rmtree(self._folder(number) / scratch, ignore_errors=True)

    def _read(self, reads: Sequence[Read]) -> Survivors:
        folder = _made(self._folder(0) / "parts")
        tasks = {read.name: ReadTask(read, self._rounds[0].rows, folder, self._quarantine) for read in reads}
        notes = {name: note for name in tasks if (note := read_note(folder, name))}
        total = sum(read.size for read in reads)
        with self._context.progress("reading", total or None, "B") as bar:
            documents = sum(note.read["documents"] for note in notes.values())
            if notes:
                bar.advance(sum(tasks[name].read.size for name in notes), documents=documents)
            missing = [task for name, task in tasks.items() if name not in notes]
            for task, part in zip(missing, self._crew.map(read_units, missing), strict=True):
                notes[part.name] = part
                documents += part.read["documents"]
                bar.advance(task.read.size, documents=documents)
        parts = [notes[name] for name in tasks]
        read: dict[str, dict[str, int]] = {}
        for part in parts:
            own = read.setdefault(part.source, {"documents": 0, "bytes": 0, "repaired": 0})
            for name, value in part.read.items():
                own[name] += value
        damaged = gather(folder, parts, self._context.work / QUARANTINE)
        return Survivors(folder, parts, _added(self._rounds[0].rows, parts), read, damaged)

    def _filter(self, number: int, before: Survivors) -> Survivors:
        this = self._rounds[number]
        assert this.corpus is not None
        base = _made(self._folder(number))
        starts = list(accumulate((part.rows for part in before.parts), initial=0))
        if not (base / "verdicts" / "whole").exists():
            self._sketch(this.corpus, base, before, starts)
            self._resolve(this.corpus, base, before)
        folder = _made(base / "parts")
        tasks = [
            VerdictTask(part, start, this.corpus, this.rows, before.folder, base / "verdicts", folder)
            for part, start in zip(before.parts, starts, strict=False)
        ]
        notes = {task.part.name: note for task in tasks if (note := read_note(folder, task.part.name))}
        missing = [task for task in tasks if task.part.name not in notes]
        total = sum(part.bytes for part in before.parts)
        with self._context.progress(f"applying {this.corpus}", total or None, "B") as bar:
            documents = sum(note.rows for note in notes.values())
            if notes:
                bar.advance(sum(task.part.bytes for task in tasks if task.part.name in notes), documents=documents)
            for task, part in zip(missing, self._crew.map(apply_verdicts, missing), strict=True):
                notes[part.name] = part
                documents += part.rows
                bar.advance(task.part.bytes, documents=documents)
        parts = [notes[task.part.name] for task in tasks]
        tallies = [*before.tallies, *_added((this.corpus, *this.rows), parts)]
        return Survivors(folder, parts, tallies, before.read, before.damaged)

    def _sketch(self, name: str, base: Path, before: Survivors, starts: Sequence[int]) -> None:
        folder = _made(base / "sketch")
        tasks = [
            SketchTask(part.name, part.bytes, start, name, before.folder, folder)
            for part, start in zip(before.parts, starts, strict=False)
            if part.rows and not (folder / f"{part.name}.arrow").exists()
        ]
        total = sum(task.size for task in tasks)
        with self._context.progress(f"sketching for {name}", total or None, "B") as bar:
            for task, _ in zip(tasks, self._crew.map(sketch, tasks), strict=True):
                bar.advance(task.size)

    def _resolve(self, name: str, base: Path, before: Survivors) -> None:
        own = self._crew.workshop.filter(name)
        schema = own.schema()
        if "position" not in schema.names or schema.field("position").type != pa.int64():
            raise Fault(f"filter {name!r}: its schema has no int64 column 'position'")
        spool = Spool(base / "sort", schema, self._memory_mb)
        for part in before.parts:
            if part.rows:
                spool.adopt(base / "sketch" / f"{part.name}.arrow")
        self._context.alive()
        shutil.rmtree(base / "resolve", ignore_errors=True)
        found = own.resolve(spool.sort(own.order()), _made(base / "resolve"), self._memory_mb)
        verdicts.store(name, found, before.parts, base / "verdicts", self._memory_mb, self._context.alive)
        write_atomically(base / "verdicts" / "whole", "")
        for scratch in ("sketch", "sort", "resolve"):
            shutil.rmtree(base / scratch, ignore_errors=True)


def _rounds(crew: Crew, filters: Sequence[str]) -> list[Round]:
    rounds = [Round(None, ())]
    for name in filters:
        part = crew.workshop.filter(name)
        if isinstance(part, CorpusFilter):
            rounds.append(Round(name, ()))
        elif isinstance(part, RowFilter):
            rounds[-1] = Round(rounds[-1].corpus, (*rounds[-1].rows, name))
        else:
            raise Fault(f"filter {name!r} has neither judge() nor sketch() and resolve()")
    return rounds


def _added(names: Sequence[str], parts: Sequence[Part]) -> list[Tally]:
    tallies = {name: Tally(name) for name in names}
    for part in parts:
        for tally in part.tallies:
            tallies[tally.name].add(tally)
    return list(tallies.values())


def _made(folder: Path) -> Path:
    """Makes a folder, and clears what a killed worker left half-written there."""
    folder.mkdir(parents=True, exist_ok=True)
    for unfinished in folder.glob(".*"):
        unfinished.unlink(missing_ok=True)
    return folder
