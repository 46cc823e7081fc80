"""Rows of Arrow's batches: only the columns that are needed and those of plain values, a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from lmgraft.errors import Problem
from lmgraft.rows.reader import RowReader
from lmgraft.seams.data_source import Damaged

from lmgraft_files.table import Row

__all__ = ["BATCH_BYTES", "BATCH_ROWS", "columns_of", "rows_of"]

#: What is Python objects at one time, roughly.
BATCH_BYTES = 16 << 20
BATCH_ROWS = 512


def columns_of(schema: pa.Schema, reader: RowReader, path: str) -> list[str]:
    """The columns to read. Raises Unreadable where one is missing."""
    names = set(schema.names)
    needed = {key if key in names else key.split(".")[0]: key for key in reader.keys}
    for top, key in needed.items():
        if top not in names:
            raise reader.lacks(key, schema.names).unreadable(f"files: {path}")
    wanted = {*needed, *(key for key in reader.optional), *(key.split(".")[0] for key in reader.optional)}
    return [field.name for field in schema if field.name in wanted or _is_plain(field.type)]


def rows_of(batch: pa.RecordBatch, first: int, path: str) -> Iterator[Row | Damaged]:
    """The rows of a batch whose first is row ``first`` of the file, from 0."""
    size = max(1, batch.nbytes // max(1, batch.num_rows))
    step = min(BATCH_ROWS, max(1, BATCH_BYTES // size))
    for start in range(0, batch.num_rows, step):
        piece = batch.slice(start, step)
        try:
            values: list[Any] = piece.to_pylist()
        except UnicodeDecodeError:
            values = [_value(piece, number, path, first + start + number, size) for number in range(piece.num_rows)]
        for place, value in enumerate(values, start=first + start):
            yield value if isinstance(value, Damaged) else Row(place, value, size)


def _value(batch: pa.RecordBatch, number: int, path: str, place: int, size: int) -> Any:
    try:
        return batch.slice(number, 1).to_pylist()[0]
    except UnicodeDecodeError as error:
        fact = f"files: {path} (row {place + 1}) is not UTF-8"
        problem = Problem(fact, str(error), "write the column anew from text that is UTF-8")
        return Damaged("bad_utf8", problem, size)


def _is_plain(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_floating)
    return any(test(kind) for test in tests) or pa.types.is_boolean(kind)
