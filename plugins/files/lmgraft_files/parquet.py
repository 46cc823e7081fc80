"""Parquet files, row group by row group."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
from lmgraft.errors import Problem, UserError

from lmgraft_files.row import RowReader
from lmgraft_files.table import Row, bad_row

__all__ = ["Parquet"]

#: Rows that are Python objects at one time.
BATCH = 256


class Parquet:
    """Only the columns that ``reader`` needs and those of plain values are read. A place is a row's number, from 0."""

    def __init__(self, path: str, reader: RowReader) -> None:
        self.path, self.reader = path, reader

    def rows(self, offset: int) -> Iterator[Row]:
        try:
            with pq.ParquetFile(self.path) as file:
                yield from self._rows(file, offset)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            problem = Problem(
                f"files: {self.path} cannot be read as Parquet",
                str(error),
                "fetch or make the file again; a file that is no Parquet needs another ending",
            )
            raise UserError(problem) from None

    def where(self, place: int) -> str:
        return f"{self.path} (row {place + 1})"

    def _rows(self, file: pq.ParquetFile, offset: int) -> Iterator[Row]:
        columns = self._columns(file.schema_arrow)
        place = 0
        for number in range(file.num_row_groups):
            size = file.metadata.row_group(number).num_rows
            if place + size <= offset:
                place += size
                continue
            for batch in file.iter_batches(BATCH, row_groups=[number], columns=columns):
                skip = min(max(0, offset - place), batch.num_rows)
                place += skip
                for row in batch.slice(skip).to_pylist():
                    yield place, row
                    place += 1

    def _columns(self, schema: pa.Schema) -> list[str]:
        needed = {key if key in schema.names else key.split(".")[0]: key for key in self.reader.keys}
        for top, key in needed.items():
            if top not in schema.names:
                raise bad_row(self.path, self.reader.lacks(key, schema.names))
        wanted = {*needed, *(key.split(".")[0] for key in self.reader.optional)}
        return [field.name for field in schema if field.name in wanted or _is_plain(field.type)]


def _is_plain(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_floating)
    return any(test(kind) for test in tests) or pa.types.is_boolean(kind)
