"""Rows on disk, sorted in bounded memory: what corpus-wise filters rest on.

An external merge sort (Knuth, The Art of Computer Programming, volume 3, section 5.4): runs that fit in memory are
sorted with Arrow and written, then merged a block at a time. The row's number is the last key of every comparison, so
no two keys are equal: the order is stable and the same on every machine, and a column of a million equal values costs
no more memory than one of distinct values.
"""

from __future__ import annotations

import bisect
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lmgraft.errors import Fault

__all__ = ["SortedRuns", "Spool"]

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

    ``memory_mb`` bounds what sorting holds at a time (a single row is always held whole). Files go into ``folder``,
    which is the spool's own: the caller removes it when nothing reads from it any more.
    """

    def __init__(self, folder: Path, schema: pa.Schema, memory_mb: float) -> None:
        self.folder = folder
        self.schema = schema
        self.rows = 0
        # A run is held three times while it is sorted: as read, its sort keys with the indices, and as taken.
        self._run_bytes = max(1, min(RUN_LIMIT, int(memory_mb * (1 << 20) / 4)))
        self._files: list[Path] = []
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_bytes = 0
        self._writer: pa.RecordBatchFileWriter | None = None
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

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

    def sort(self, order: Sequence[str]) -> SortedRuns:
        """All rows so far, ascending by the columns ``order``, the most significant first.

        Nulls come last; equal rows keep the order in which they were added.
        """
        missing = [name for name in order if name not in self.schema.names]
        if missing:
            raise Fault(f"rows cannot be sorted by {missing[0]!r}: the columns are ({_columns(self.schema)})")
        self._finish()
        runs: list[Path] = []
        for table in self._tables():
            path = self.folder / f"run-0-{len(runs):06d}.arrow"
            _write_run(path, [_in_order(table, order)], self._run_bytes)
            runs.append(path)
        level = 0
        while len(runs) > FAN_IN:
            level += 1
            runs = self._merge_pass(runs, order, level)
        return SortedRuns(runs, tuple(order), self.schema, self.rows)

    def _merge_pass(self, runs: list[Path], order: Sequence[str], level: int) -> list[Path]:
        merged: list[Path] = []
        for start in range(0, len(runs), FAN_IN):
            group = runs[start : start + FAN_IN]
            path = self.folder / f"run-{level}-{len(merged):06d}.arrow"
            _write_run(path, _merge(group, order), self._run_bytes)
            merged.append(path)
            for done in group:
                done.unlink()
        return merged

    def _tables(self) -> Iterator[pa.Table]:
        """The rows in the order of adding, numbered, in tables of at most a run's size."""
        parts: list[pa.RecordBatch] = []
        size = number = first = 0
        for batch in self._pieces():
            if parts and size + batch.nbytes > self._run_bytes:
                yield _numbered(parts, first)
                parts, size, first = [], 0, number
            parts.append(batch)
            size += batch.nbytes
            number += batch.num_rows
        if parts:
            yield _numbered(parts, first)

    def _pieces(self) -> Iterator[pa.RecordBatch]:
        """All batches, the large ones cut so that several fit in a run."""
        for path in self._files:
            with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
                for i in range(reader.num_record_batches):
                    batch = reader.get_batch(i)
                    rows = _rows_within(batch, max(1, self._run_bytes // 4))
                    for start in range(0, batch.num_rows, rows):
                        yield batch.slice(start, rows)

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


def _numbered(parts: Sequence[pa.RecordBatch], first: int) -> pa.Table:
    table = pa.Table.from_batches(parts)
    return table.append_column(ROW, pa.array(np.arange(first, first + table.num_rows, dtype=np.int64)))


def _in_order(table: pa.Table, order: Sequence[str]) -> pa.Table:
    table = table.combine_chunks()
    keys = [(name, "ascending") for name in (*order, ROW)]
    return table.take(pc.sort_indices(table, sort_keys=keys))


def _write_run(path: Path, tables: Iterator[pa.Table] | Sequence[pa.Table], run_bytes: int) -> None:
    """Writes sorted tables as one file whose batches are blocks: ``FAN_IN`` of them make up a run's memory."""
    writer: pa.RecordBatchFileWriter | None = None
    for table in tables:
        if writer is None:
            writer = pa.ipc.new_file(str(path), table.schema)
        rows = _rows_within(table, max(1, run_bytes // FAN_IN))
        for batch in table.to_batches(max_chunksize=rows):
            writer.write_batch(batch)
    if writer is not None:
        writer.close()


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
        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
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
