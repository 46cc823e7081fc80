"""Sources through filters, in rounds: row-wise filters share a pass; a corpus-wise one ends it and takes two more.

Every pass leaves part files in the scratch folder and every round a note, so a killed stage goes on from its finished
tasks. Positions, parts and counts depend on the units alone: not on the workers, and not on where it was interrupted.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

from lmgraft.errors import Fault
from lmgraft.seams.filter import CorpusFilter, RowFilter
from lmgraft.seams.stage import StageContext
from lmgraft.stages._corpus_crew import Crew
from lmgraft.stages._corpus_damage import QUARANTINE, gather
from lmgraft.stages._corpus_jobs import ReadTask, VerdictTask, apply_verdicts, read_units
from lmgraft.stages._corpus_meter import metered
from lmgraft.stages._corpus_parts import Part, read_note, write_atomically
from lmgraft.stages._corpus_tally import Tally
from lmgraft.stages._corpus_units import Read
from lmgraft.stages._corpus_wise import CorpusWise, cleared
from lmgraft.stages._corpus_workshop import Job

__all__ = ["Pipeline", "Survivors"]

T = TypeVar("T")


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

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts)


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
        folder = cleared(self._folder(0) / "parts")
        tasks = {read.name: ReadTask(read, self._rounds[0].rows, folder, self._quarantine) for read in reads}
        tallies = Tallies(self._rounds[0].rows)
        read: dict[str, dict[str, int]] = {}
        parts: list[Part] = []
        with metered(self._context, "reading", sum(read.size for read in reads)) as meter:
            for task, part, before in self._made(read_units, tasks, folder):
                own = read.setdefault(part.source, {"documents": 0, "bytes": 0, "repaired": 0})
                for name, value in part.read.items():
                    own[name] += value
                meter.add(task.read.size, part.read["documents"], before=before)
                parts.append(tallies.take(part))
        damaged = gather(folder, parts, self._context.work / QUARANTINE)
        return Survivors(folder, parts, tallies.all(), read, damaged)

    def _filter(self, number: int, before: Survivors) -> Survivors:
        this = self._rounds[number]
        assert this.corpus is not None
        base = cleared(self._folder(number))
        starts = list(accumulate((part.rows for part in before.parts), initial=0))
        if not (base / "verdicts" / "whole").exists():
            wise = CorpusWise(self._context, self._crew, this.corpus, base, self._memory_mb)
            wise.judge(before.parts, starts, before.folder)
        folder = cleared(base / "parts")
        tasks = {
            part.name: VerdictTask(part, start, this.corpus, this.rows, before.folder, base / "verdicts", folder)
            for part, start in zip(before.parts, starts, strict=False)
        }
        tallies = Tallies((this.corpus, *this.rows))
        parts: list[Part] = []
        with metered(self._context, f"applying {this.corpus}", before.bytes) as meter:
            for task, part, earlier in self._made(apply_verdicts, tasks, folder):
                meter.add(task.part.bytes, task.part.rows, before=earlier)
                parts.append(tallies.take(part))
        return Survivors(folder, parts, [*before.tallies, *tallies.all()], before.read, before.damaged)

    def _made(self, job: Job[T, Part], tasks: Mapping[str, T], folder: Path) -> Iterator[tuple[T, Part, bool]]:
        """The parts of a pass in the tasks' order: (task, part, whether it was there before)."""
        there = {path.stem for path in folder.glob("*.json")}
        made = self._crew.map(job, (task for name, task in tasks.items() if name not in there))
        for name, task in tasks.items():
            note = read_note(folder, name) if name in there else None
            yield task, note or next(made), note is not None


class Tallies:
    """What filters did, added up part by part in the order of the corpus: no part keeps its own."""

    def __init__(self, names: Sequence[str]) -> None:
        self._tallies = {name: Tally(name) for name in names}

    def take(self, part: Part) -> Part:
        for tally in part.tallies:
            self._tallies[tally.name].add(tally)
        part.tallies = []
        return part

    def all(self) -> list[Tally]:
        return list(self._tallies.values())


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
