"""What a file of rows must give, and how a bad row is told."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from lmgraft.errors import Problem
from lmgraft.seams.data_source import Damaged

__all__ = ["Row", "Table", "as_row", "too_long"]


class Row(NamedTuple):
    """One row of a file."""

    place: int
    """For :meth:`Table.where`."""
    values: Mapping[str, Any]
    size: int = 0
    """Its bytes in the file, as far as known."""


class Table(Protocol):
    """A file of rows, or a range of one."""

    def rows(self) -> Iterator[Row | Damaged]:
        """Every row, and what is no row. Raises Unreadable where nothing after it can be read."""
        ...

    def where(self, place: int) -> str:
        """The file and line (or row) of a place, for messages."""
        ...


def as_row(value: Any, where: str, place: int, size: int = 0) -> Row | Damaged:
    """``value`` as a row if JSON's parser made an object of it."""
    if isinstance(value, dict):
        return Row(place, value, size)
    cause = f"the row is {json.dumps(value)[:40]}"
    remedy = 'write each row as an object with keys, as in {"text": "..."}'
    return Damaged("wrong_type", Problem(f"files: {where} is no JSON object", cause, remedy), size)


def too_long(where: str, size: int, limit: int) -> Problem:
    """A line or a record that memory is not to hold."""
    remedy = "set a larger files.row_bytes, which is memory for each worker; or cut the row"
    return Problem(f"files: {where} is too long", f"it has more than files.row_bytes={limit:,} bytes: {size:,}", remedy)
