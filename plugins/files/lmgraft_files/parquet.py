"""Parquet files, row group by row group."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
from lmgraft.errors import Problem
from lmgraft.rows.reader import RowReader
from lmgraft.seams.data_source import Damaged, Unreadable

from lmgraft_files.columnar import BATCH_BYTES, BATCH_ROWS, columns_of, rows_of
from lmgraft_files.table import Row

__all__ = ["Parquet", "row_group_sizes"]

#: Read of a column at one time, instead of all that a row group has of it.
BUFFER = 1 << 20
ERRORS = (pa.ArrowException, OSError, UnicodeDecodeError)


def row_group_sizes(path: str) -> list[int]:
    """The bytes of each row group in the file; none where it is no Parquet, which reading it tells."""
    try:
        metadata = pq.read_metadata(path)
    except ERRORS:
        return []
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    return [sum(group.column(i).total_compressed_size for i in range(group.num_columns)) for group in groups]


class Parquet:
    """The row groups ``[start, end)``. A place is a row's number in the file, from 0.

    A row group that is broken is damaged as a whole; those after it are read.
    """

    def __init__(self, path: str, reader: RowReader, start: int = 0, end: int | None = None) -> None:
        self.path, self.reader, self.start, self.end = path, reader, start, end

    def rows(self) -> Iterator[Row | Damaged]:
        try:
            file = pq.ParquetFile(self.path, buffer_size=BUFFER, pre_buffer=False)
        except ERRORS as error:
            raise Unreadable("bad_parquet", self._broken("", error)) from None
        with file:
            columns = columns_of(file.schema_arrow, self.reader, self.path)
            sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
            for number in range(self.start, len(sizes) if self.end is None else self.end):
                try:
                    yield from self._group(file, number, columns, sum(sizes[:number]))
                except ERRORS as error:
                    problem = self._broken(f" (row group {number + 1} of {len(sizes)})", error)
                    yield Damaged("bad_parquet", problem, file.metadata.row_group(number).total_byte_size)

    def where(self, place: int) -> str:
        return f"{self.path} (row {place + 1})"

    def _group(self, file: pq.ParquetFile, number: int, columns: list[str], first: int) -> Iterator[Row | Damaged]:
        group = file.metadata.row_group(number)
        chunks = (group.column(index) for index in range(group.num_columns))
        size = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns)
        rows = min(BATCH_ROWS, max(1, BATCH_BYTES * group.num_rows // max(1, size)))
        for batch in file.iter_batches(rows, row_groups=[number], columns=columns, use_threads=False):
            yield from rows_of(batch, first, self.path)
            first += batch.num_rows

    def _broken(self, part: str, error: Exception) -> Problem:
        fact = f"files: {self.path}{part} cannot be read as Parquet"
        remedy = "fetch or make the file again; a file that is no Parquet needs another ending"
        return Problem(fact, str(error), remedy)
