"""JSON lines: one object a line, whole files or ranges of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from lmgraft.errors import Problem, UserError

from lmgraft_files.opening import BOM, line_at, opened, utf8
from lmgraft_files.table import Row, as_object

__all__ = ["JsonLines"]


class JsonLines:
    """Lines end with ``\\n`` only, since a text may hold Unicode's other line ends. Blank lines are no rows.

    A range ``[start, end)`` holds the rows that *start* in it, so ranges that touch share no row and lose none.
    A place is the byte where a line starts.
    """

    def __init__(self, path: str, start: int = 0, end: int | None = None) -> None:
        self.path, self.start, self.end = path, start, end

    def rows(self, offset: int) -> Iterator[Row]:
        with opened(self.path) as stream:
            for position, line in self._lines(stream):
                if offset:  # skipped, not parsed again
                    offset -= 1
                    continue
                yield position, self._parse(line, position)

    def where(self, place: int) -> str:
        return f"{self.path}:{line_at(self.path, place)}"

    def _lines(self, stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
        position = 0
        if self.start:
            stream.seek(self.start - 1)  # a line starts at ``start`` if the byte before it ends one
            position = self.start - 1 + len(stream.readline())
        while self.end is None or position < self.end:
            line = stream.readline()
            if not line:
                return
            body = line.removeprefix(BOM) if position == 0 else line
            if body.strip():
                yield position + len(line) - len(body), body
            position += len(line)

    def _parse(self, line: bytes, position: int) -> Mapping[str, Any]:
        text = utf8(line, self.path, position)
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            problem = Problem(
                f"files: {self.where(position)} is not valid JSON",
                f"{error}; the line begins with {text[:40]!r}",
                "each line must be one whole JSON object; a list of objects belongs into a .json file",
            )
            raise UserError(problem) from None
        return as_object(row, self.where, position)
