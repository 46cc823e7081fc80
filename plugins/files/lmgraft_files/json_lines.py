"""JSON lines: one object a line, whole files or ranges of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import BinaryIO

from lmgraft.errors import Problem
from lmgraft.seams.data_source import Damaged

from lmgraft_files.opening import BOM, Lines, Place, not_utf8, opened
from lmgraft_files.plugin import FilesConfig
from lmgraft_files.table import Row, as_row, too_long

__all__ = ["JsonLines"]


class JsonLines:
    """Lines end with ``\\n`` only, since a text may hold Unicode's other line ends. Blank lines are no rows.

    A range ``[start, end)`` holds the rows that *start* in it, so ranges that touch share no row and lose none.
    A place is the number of a line in the range, from 0.
    """

    def __init__(self, path: str, config: FilesConfig, start: int = 0, end: int | None = None) -> None:
        self.path, self.config, self.start, self.end = path, config, start, end
        self._place = Place(path, start)

    def rows(self) -> Iterator[Row | Damaged]:
        with opened(self.path, self.config.expansion) as stream:
            yield from self._rows(stream)

    def where(self, place: int) -> str:
        return self._place.where(place)

    def _rows(self, stream: BinaryIO) -> Iterator[Row | Damaged]:
        lines = Lines(stream, self.config.row_bytes)
        position, number = self.start, 0
        if self.start:
            stream.seek(self.start - 1)  # a line starts at ``start`` if the byte before it ends one
            position = self.start - 1 + lines.skip()[0]
            number = int(position > self.start)  # that line's end is counted where the next one begins
        while self.end is None or position < self.end:
            line = lines.next()
            if line is None:
                size = lines.skip()[0]
                yield Damaged("too_long", too_long(self.where(number), size, self.config.row_bytes), size)
            elif not line:
                return
            else:
                size = len(line)
                body = line.removeprefix(BOM) if position == 0 else line
                if not body.isspace() and body:
                    yield self._parsed(body, number, position + size - len(body))
            position += size
            number += 1

    def _parsed(self, line: bytes, number: int, position: int) -> Row | Damaged:
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            return not_utf8(self.where(number), position + error.start, line[error.start], len(line))
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            problem = Problem(
                f"files: {self.where(number)} is not valid JSON",
                f"{error}; the line begins with {text[:40]!r}",
                "each line must be one whole JSON object; a list of objects belongs into a .json file",
            )
            return Damaged("bad_json", problem, len(line))
        if isinstance(value, dict):
            return Row(number, value, len(line))
        return as_row(value, self.where(number), number, len(line))
