"""What a file of rows must give, and how a bad row is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from lmgraft.errors import Problem, UserError

from lmgraft_files.row import RowError

__all__ = ["Row", "Table", "as_object", "bad_row"]

Row = tuple[int, Mapping[str, Any]]


class Table(Protocol):
    """A file of rows, or a range of one."""

    def rows(self, offset: int) -> Iterator[Row]:
        """(place, row) of every row after the first ``offset``. Raises UserError for what is no row."""
        ...

    def where(self, place: int) -> str:
        """The file and line (or row) of a place, for messages."""
        ...


def bad_row(where: str, error: RowError) -> UserError:
    """What is wrong with the row at ``where``."""
    return UserError(Problem(f"files: {where}: {error.what}", error.cause, error.remedy))


def as_object(row: Any, where: Callable[[int], str], place: int) -> Mapping[str, Any]:
    """``row`` if JSON's parser made an object of it. Raises UserError."""
    if isinstance(row, dict):
        return row
    cause = f"the row is {json.dumps(row)[:40]}"
    remedy = 'write each row as an object with keys, as in {"text": "..."}'
    raise UserError(Problem(f"files: {where(place)} is no JSON object", cause, remedy))
