"""Rows on disk, sorted in bounded memory: what corpus-wise filters rest on.

An external merge sort (Knuth, The Art of Computer Programming, volume 3, section 5.4): runs that fit in memory are
sorted with Arrow and written, then merged a block at a time. The row's number is the last key of every comparison, so
no two keys are equal: the order is stable and the same on every machine, and a column of a million equal values costs
no more memory than one of distinct values.
"""

from __future__ import annotations

import bisect
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lmgraft.errors import Fault

__all__ = ["Make", "Piece", "Run", "SortedRuns", "Spool", "kept_runs", "make_run"]

STATE = "sort.json"

ROW = "__row__"
"""The column that holds a row's number while it is sorted."""
FAN_IN = 64
"""Runs that are merged at once; more are merged in passes."""
BATCH_ROWS = 65_536
"""Most rows of a batch that comes out."""
WRITE_BYTES = 1 << 20
"""Small batches are written together once they are this large."""
RUN_LIMIT = 512 << 20
"""A run is never larger: Arrow's string columns end at 2 GiB."""


class Spool:
    """Collects batches of one schema on disk and sorts them.

    ``memory_mb`` bounds what sorting holds at a time (a single row is always held whole), in all of its ``sorters``
    together, the processes that sort at once. Files go into ``folder``, which is the spool's own: the caller removes it
    when nothing reads from it any more. A spool of adopted files that is to be ``kept`` sorts nothing again that an
    earlier one of the same folder and settings has sorted: see :func:`kept_runs` for one that had finished.
    """

    def __init__(
        self, folder: Path, schema: pa.Schema, memory_mb: float, *, sorters: int = 1, kept: bool = False
    ) -> None:
        self.folder = folder
        self.schema = schema
        self.rows = 0
        # A run is held three times while it is sorted: as read, its sort keys with the indices, and as taken.
        self._run_bytes = max(1, min(RUN_LIMIT, int(memory_mb * (1 << 20) / 4 / sorters)))
        self._files: list[Path] = []
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_bytes = 0
        self._writer: pa.RecordBatchFileWriter | None = None
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)

    def append(self, batch: pa.RecordBatch) -> None:
        """Adds rows; raises :class:`Fault` where the batch has other columns than the spool."""
        if not batch.schema.equals(self.schema):
            raise Fault(f"rows for a spool have the columns ({_columns(batch.schema)}), not ({_columns(self.schema)})")
        self.rows += batch.num_rows
        self._waiting.append(batch)
        self._waiting_bytes += batch.nbytes
        if self._waiting_bytes >= WRITE_BYTES:
            self._write()

    def adopt(self, path: Path) -> None:
        """Adds the rows of a finished Arrow file of the same schema, which stays where it is."""
        self._finish()
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
            if not reader.schema.equals(self.schema):
                raise Fault(f"{path.name} has the columns ({_columns(reader.schema)}), not ({_columns(self.schema)})")
            self.rows += sum(reader.get_batch(i).num_rows for i in range(reader.num_record_batches))
        self._files.append(path)

    def sort(self, order: Sequence[str], make: Make | None = None) -> SortedRuns:
        """All rows so far, ascending by the columns ``order``, the most significant first.

        Nulls come last; equal rows keep the order in which they were added. ``make`` calls :func:`make_run` on the
        tasks that it is given and yields the results in their order; it is called once a pass, and may use as many
        processes as the spool has ``sorters``. A spool that is kept goes on from the runs it finds.
        """
        missing = [name for name in order if name not in self.schema.names]
        if missing:
            raise Fault(f"rows cannot be sorted by {missing[0]!r}: the columns are ({_columns(self.schema)})")
        self._finish()
        make = make or _make_here
        plan = {"order": list(order), "run_bytes": self._run_bytes, "rows": self.rows}
        state = _state(self.folder)
        if any(state.get(name) != value for name, value in plan.items()):
            for path in self.folder.glob("*run-*"):
                path.unlink()
            state = {**plan, "level": -1, "runs": 0}
            _keep(self.folder, state)
        if state["level"] < 0:
            runs = sum(1 for _ in make(self._runs(order)))
            state |= {"level": 0, "runs": runs}
            _keep(self.folder, state)
        while state["runs"] > FAN_IN:
            merges = list(self._merges(order, state["level"], state["runs"]))
            for merge, _ in zip(merges, make(merges), strict=True):
                for done in merge.runs:
                    done.unlink(missing_ok=True)
            state |= {"level": state["level"] + 1, "runs": len(merges)}
            _keep(self.folder, state)
        return _sorted_runs(self.folder, self.schema, state)

    def _merges(self, order: Sequence[str], level: int, count: int) -> Iterator[Run]:
        runs = _paths(self.folder, level, count)
        for number, start in enumerate(range(0, count, FAN_IN)):
            path = _path(self.folder, level + 1, number)
            yield Run(path, tuple(order), self._run_bytes, runs=tuple(runs[start : start + FAN_IN]))

    def _runs(self, order: Sequence[str]) -> Iterator[Run]:
        """The rows in the order of adding, cut into runs of at most a run's size."""
        pieces: list[Piece] = []
        size = first = after = made = 0
        for piece, nbytes in self._pieces():
            if pieces and size + nbytes > self._run_bytes:
                yield Run(_path(self.folder, 0, made), tuple(order), self._run_bytes, tuple(pieces), first)
                pieces, size, first, made = [], 0, after, made + 1
            pieces.append(piece)
            size += nbytes
            after += piece.rows
        if pieces:
            yield Run(_path(self.folder, 0, made), tuple(order), self._run_bytes, tuple(pieces), first)

    def _pieces(self) -> Iterator[tuple[Piece, int]]:
        """All batches and their bytes, the large ones cut so that several fit in a run."""
        for path in self._files:
            with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
                for i in range(reader.num_record_batches):
                    batch = reader.get_batch(i)
                    rows = _rows_within(batch, max(1, self._run_bytes // 4))
                    for start in range(0, batch.num_rows, rows):
                        part = batch.slice(start, rows)
                        yield Piece(path, i, start, part.num_rows), part.nbytes

    def _write(self) -> None:
        if not self._waiting:
            return
        if self._writer is None:
            path = self.folder / f"rows-{len(self._files):06d}.arrow"
            self._writer = pa.ipc.new_file(str(path), self.schema)
            self._files.append(path)
        for batch in pa.Table.from_batches(self._waiting).combine_chunks().to_batches():
            self._writer.write_batch(batch)
        self._waiting, self._waiting_bytes = [], 0

    def _finish(self) -> None:
        self._write()
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class Piece(NamedTuple):
    """Rows of a batch of a file."""

    file: Path
    batch: int
    first: int
    rows: int


@dataclass(frozen=True)
class Run:
    """A sorted file to be made: of rows as they were added, or of shorter runs."""

    path: Path
    order: tuple[str, ...]
    run_bytes: int
    pieces: tuple[Piece, ...] = ()
    first: int = 0
    """The number of the first row."""
    runs: tuple[Path, ...] = ()

    @property
    def what(self) -> str:
        return f"sorting into {self.path.name}"


Make = Callable[[Iterable[Run]], Iterator[int]]


def make_run(_: object, run: Run) -> int:
    """Makes a run, whole or not at all, unless it is there; the rows that it holds.

    A job of the corpus stage: hence the workshop, which it does not need.
    """
    if run.path.exists():
        with pa.memory_map(str(run.path)) as source, pa.ipc.open_file(source) as reader:
            return sum(reader.get_batch(i).num_rows for i in range(reader.num_record_batches))
    unfinished = run.path.with_name(f".{run.path.name}.{os.getpid()}")
    rows = _write_run(unfinished, _merge(run.runs, run.order) if run.runs else [_in_order(_table(run), run.order)], run)
    unfinished.replace(run.path)
    return rows


def _make_here(runs: Iterable[Run]) -> Iterator[int]:
    return (make_run(None, run) for run in runs)


def kept_runs(folder: Path, schema: pa.Schema, order: Sequence[str]) -> SortedRuns | None:
    """What a kept spool of this folder has sorted; None where it was not finished."""
    state = _state(folder)
    finished = state.get("order") == list(order) and state["level"] >= 0 and state["runs"] <= FAN_IN
    return _sorted_runs(folder, schema, state) if finished else None


def _sorted_runs(folder: Path, schema: pa.Schema, state: Mapping[str, Any]) -> SortedRuns:
    return SortedRuns(_paths(folder, state["level"], state["runs"]), state["order"], schema, state["rows"])


def _state(folder: Path) -> dict[str, Any]:
    """How far a sort has come: the pass that is whole and its runs, and what was sorted how."""
    try:
        state: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return state


def _keep(folder: Path, state: Mapping[str, Any]) -> None:
    unfinished = folder / f".{STATE}"
    unfinished.write_text(json.dumps(state), encoding="utf-8")
    unfinished.replace(folder / STATE)


def _path(folder: Path, level: int, number: int) -> Path:
    return folder / f"run-{level}-{number:06d}.arrow"


def _paths(folder: Path, level: int, count: int) -> list[Path]:
    return [_path(folder, level, number) for number in range(count)]


class SortedRuns:
    """The sorted rows; a :class:`lmgraft.seams.filter.SortedSpool`. May be read more than once."""

    def __init__(self, runs: Sequence[Path], order: Sequence[str], schema: pa.Schema, rows: int) -> None:
        self.rows = rows
        self.schema = schema
        self._runs = tuple(runs)
        self._order = tuple(order)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows, ascending; a batch ends anywhere."""
        for table in _merge(self._runs, self._order):
            for batch in table.select(self.schema.names).to_batches(max_chunksize=BATCH_ROWS):
                if batch.num_rows:
                    yield batch


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)


def _rows_within(batch: pa.RecordBatch | pa.Table, size: int) -> int:
    """How many rows of a batch take about ``size`` bytes; at least one."""
    return max(1, int(batch.num_rows * size // max(1, batch.nbytes)))


def _table(run: Run) -> pa.Table:
    """The rows of a run as they were added, numbered."""
    batches = []
    for file, pieces in itertools.groupby(run.pieces, key=lambda piece: piece.file):
        with pa.memory_map(str(file)) as source, pa.ipc.open_file(source) as reader:
            batches += [reader.get_batch(piece.batch).slice(piece.first, piece.rows) for piece in pieces]
    table = pa.Table.from_batches(batches)
    return table.append_column(ROW, pa.array(np.arange(run.first, run.first + table.num_rows, dtype=np.int64)))


def _in_order(table: pa.Table, order: Sequence[str]) -> pa.Table:
    table = table.combine_chunks()
    keys = [(name, "ascending") for name in (*order, ROW)]
    return table.take(pc.sort_indices(table, sort_keys=keys))


def _write_run(path: Path, tables: Iterable[pa.Table], run: Run) -> int:
    """Writes sorted tables as one file whose batches are blocks: ``FAN_IN`` of them make up a run's memory."""
    writer: pa.RecordBatchFileWriter | None = None
    written = 0
    for table in tables:
        if writer is None:
            writer = pa.ipc.new_file(str(path), table.schema)
        written += table.num_rows
        rows = _rows_within(table, max(1, run.run_bytes // FAN_IN))
        for batch in table.to_batches(max_chunksize=rows):
            writer.write_batch(batch)
    if writer is not None:
        writer.close()
    return written


def _merge(runs: Sequence[Path], order: Sequence[str]) -> Iterator[pa.Table]:
    """Merges sorted runs, holding one block of each.

    Every row up to the smallest last key of the blocks held is final, since each run goes on above its own last key.
    """
    cursors = [cursor for cursor in (_Cursor(path, order) for path in runs) if cursor.fill()]
    while cursors:
        bound = min(cursor.last for cursor in cursors)
        pieces = [piece for piece in (cursor.upto(bound) for cursor in cursors) if piece.num_rows]
        table = pa.Table.from_batches(pieces)
        yield table if len(pieces) == 1 else _in_order(table, order)
        cursors = [cursor for cursor in cursors if cursor.fill()]


class _Cursor:
    """One sorted run, read block by block."""

    last: tuple[Any, ...]

    def __init__(self, path: Path, order: Sequence[str]) -> None:
        # Not mapped: pages that were read would count as this process's memory until the system takes them back.
        self._reader = pa.ipc.open_file(pa.OSFile(str(path)))
        self._order = (*order, ROW)
        self._next = 0
        self._at = 0
        self._block: pa.RecordBatch | None = None

    def fill(self) -> bool:
        """Reads the next block if the last is used up; false at the end of the run."""
        while self._block is None or self._at == self._block.num_rows:
            if self._next == self._reader.num_record_batches:
                return False
            self._block = self._reader.get_batch(self._next)
            self._keys = [self._block.column(name) for name in self._order]
            self._next += 1
            self._at = 0
            if self._block.num_rows:
                self.last = self._key(self._block.num_rows - 1)
        return True

    def upto(self, bound: tuple[Any, ...]) -> pa.RecordBatch:
        """The rows not yet taken whose key is at most ``bound``."""
        assert self._block is not None
        start, end = self._at, self._block.num_rows
        if self.last > bound:
            end = bisect.bisect_right(range(end), bound, lo=start, key=self._key)
        self._at = end
        return self._block.slice(start, end - start)

    def _key(self, row: int) -> tuple[Any, ...]:
        return tuple(_comparable(column[row].as_py()) for column in self._keys)


def _comparable(value: Any) -> tuple[int, Any]:
    """Arrow's ascending order in Python: values, then NaN, then null."""
    if value is None:
        return (2, 0)
    if value != value:
        return (1, 0)
    return (0, value)
