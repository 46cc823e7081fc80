"""A corpus-wise filter at work: sketches of every part, sorted on disk, and the verdicts that it finds in them.

Each of the three steps is kept when it is whole (sketches part by part, the sort run by run), so a killed stage does
none of them again, except that a filter resolves from the beginning of the sorted sketches.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa

from lmgraft.errors import Fault
from lmgraft.seams.stage import StageContext
from lmgraft.spool import Run, SortedRuns, Spool, kept_runs, make_run
from lmgraft.stages import _corpus_verdicts as verdicts
from lmgraft.stages._corpus_crew import Crew
from lmgraft.stages._corpus_jobs import SketchTask, sketch
from lmgraft.stages._corpus_meter import Watched, metered
from lmgraft.stages._corpus_parts import Part, write_atomically

__all__ = ["CorpusWise", "cleared"]

SORTER_MB = 128
"""Memory for which one more process sorts at the same time."""


class CorpusWise:
    """The filter ``name``; ``base`` is its round's own folder, and the verdicts go into ``verdicts`` there."""

    def __init__(self, context: StageContext, crew: Crew, name: str, base: Path, memory_mb: int) -> None:
        self._context = context
        self._crew = crew
        self._name = name
        self._base = base
        self._memory_mb = memory_mb
        self._filter: Any = crew.workshop.filter(name)

    def judge(self, parts: Sequence[Part], starts: Sequence[int], folder: Path) -> None:
        """Writes the verdicts on the parts in ``folder``; ``starts`` are the positions of their first documents."""
        schema, order = self._filter.schema(), self._filter.order()
        if "position" not in schema.names or schema.field("position").type != pa.int64():
            raise Fault(f"filter {self._name!r}: its schema has no int64 column 'position'")
        done = kept_runs(self._base / "sort", schema, order)
        if done is None:
            self._sketch(parts, starts, folder)
            done = self._sort(parts, schema, order)
        shutil.rmtree(self._base / "sketch", ignore_errors=True)
        self._resolve(parts, done)

    def _sketch(self, parts: Sequence[Part], starts: Sequence[int], parts_folder: Path) -> None:
        folder = cleared(self._base / "sketch")
        there = {path.stem for path in folder.glob("*.arrow")}
        tasks = [
            SketchTask(part.name, part.bytes, start, self._name, parts_folder, folder)
            for part, start in zip(parts, starts, strict=False)
            if part.rows and part.name not in there
        ]
        made = self._crew.map(sketch, tasks)
        with metered(self._context, f"sketching for {self._name}", sum(part.bytes for part in parts)) as meter:
            for part in parts:
                before = part.name in there
                if part.rows and not before:
                    next(made)
                meter.add(part.bytes, part.rows, before=before)

    def _sort(self, parts: Sequence[Part], schema: pa.Schema, order: Sequence[str]) -> SortedRuns:
        sorters = max(1, min(self._crew.workers, self._memory_mb // SORTER_MB))
        spool = Spool(cleared(self._base / "sort"), schema, self._memory_mb, sorters=sorters, kept=True)
        for part in parts:
            if part.rows:
                spool.adopt(self._base / "sketch" / f"{part.name}.arrow")
        with self._context.progress(f"sorting for {self._name}", spool.rows or None, "rows") as bar:
            passes = count(1)

            def make(runs: Iterable[Run]) -> Iterator[int]:
                bar.total(next(passes) * spool.rows)
                for rows in self._crew.map(make_run, runs, sorters):
                    bar.advance(rows)
                    yield rows

            return spool.sort(order, make)

    def _resolve(self, parts: Sequence[Part], spool: SortedRuns) -> None:
        base, alive = self._base, self._context.alive
        shutil.rmtree(base / "resolve", ignore_errors=True)
        with self._context.progress(f"resolving {self._name}", spool.rows or None, "rows") as bar:
            found = self._filter.resolve(Watched(spool, bar, alive), cleared(base / "resolve"), self._memory_mb)
            verdicts.store(self._name, found, parts, base / "verdicts", self._memory_mb, alive)
        write_atomically(base / "verdicts" / "whole", "")
        for scratch in ("sort", "resolve"):
            shutil.rmtree(base / scratch, ignore_errors=True)


def cleared(folder: Path) -> Path:
    """Makes a folder, and clears what a killed worker left half-written there."""
    folder.mkdir(parents=True, exist_ok=True)
    for unfinished in folder.glob(".*"):
        unfinished.unlink(missing_ok=True)
    return folder
