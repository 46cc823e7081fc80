"""A JSON list of objects, read piece by piece: memory holds a chunk and the largest row, never the file."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from lmgraft.errors import Problem
from lmgraft.seams.data_source import Damaged, Unreadable

from lmgraft_files.json_lines import JsonLines
from lmgraft_files.opening import BOM, not_utf8, opened
from lmgraft_files.plugin import FilesConfig
from lmgraft_files.table import Row, Table, as_row, too_long

__all__ = ["JsonArray", "json_table"]

CHUNK = 1 << 20
#: How far before the end of what is read so far a parser may notice that something is missing.
MARGIN = 64
SPACE = re.compile(r"[ \t\r\n]*")


def json_table(path: str, config: FilesConfig) -> Table:
    """The reader of a .json file: a list, or, as hubs often name them, JSON lines."""
    with opened(path, config.expansion) as stream:
        head = stream.read(CHUNK).removeprefix(BOM).lstrip()
    return JsonArray(path, config) if head.startswith(b"[") else JsonLines(path, config)


class JsonArray:
    """A ``.json`` file that holds a list of objects. A place is the line where the row begins.

    Behind a break in the list nothing can be told apart any more: the rest of the file is lost.
    """

    def __init__(self, path: str, config: FilesConfig, chunk: int = CHUNK) -> None:
        self.path, self.config, self.chunk = path, config, chunk

    def rows(self) -> Iterator[Row | Damaged]:
        with opened(self.path, self.config.expansion) as stream:
            text = _Scanner(self, stream)
            text.expect("[")
            if text.peek() != "]":
                for line, value in text.values():
                    yield as_row(value, self.where(line), line)
            text.expect("]")
            if text.peek():
                raise text.broken("there is more after the list's end")

    def where(self, place: int) -> str:
        return f"{self.path}:{place}"


class _Scanner:
    """Takes JSON values one after another from a stream of bytes."""

    def __init__(self, table: JsonArray, stream: BinaryIO) -> None:
        self._table, self._stream = table, stream
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._scan = json.JSONDecoder().raw_decode
        self._held, self._at = "", 0
        self._line, self._fed = 1, 0

    def values(self) -> Iterator[tuple[int, Any]]:
        """(line, value) up to the list's closing bracket, which is left."""
        while True:
            self.peek()
            yield self._line, self._value()
            if self.peek() == "]":
                return
            self.expect(",")

    def peek(self) -> str:
        """The next character that is no white space, or "" at the end of the file."""
        while True:
            match = SPACE.match(self._held, self._at)
            self._go(match.end() if match else self._at)
            if self._at < len(self._held) or not self._more():
                return self._held[self._at : self._at + 1]

    def expect(self, character: str) -> None:
        found = self.peek()
        if found != character:
            raise self.broken(f"expected {character!r}, found {found!r}" if found else "the file ends too early")
        self._go(self._at + 1)

    def broken(self, message: str) -> Unreadable:
        fact = f"files: {self._table.where(self._line)} is not valid JSON"
        remedy = "a .json file holds a list of objects, [{...}, {...}], or one whole object a line"
        return Unreadable("bad_json", Problem(fact, message, remedy))

    def _value(self) -> Any:
        while True:
            try:
                value, end = self._scan(self._held, self._at)
            except json.JSONDecodeError as error:
                # A value that goes on after what is held fails at its end, or where its last string begins.
                unfinished = error.pos >= len(self._held) - MARGIN or error.msg.startswith("Unterminated string")
                if not unfinished or not self._more():
                    self._go(error.pos)
                    raise self.broken(error.msg) from None
            except (ValueError, RecursionError) as error:  # numbers of thousands of digits, nesting without end
                raise self.broken(str(error)) from None
            else:
                self._go(end)
                return value

    def _go(self, at: int) -> None:
        self._line += self._held.count("\n", self._at, at)
        self._at = at

    def _more(self) -> bool:
        held, limit = self._held[self._at :], self._table.config.row_bytes
        if len(held) > limit:
            raise Unreadable("too_long", too_long(self._table.where(self._line), len(held), limit))
        # As much again as is held: a row larger than a chunk is scanned a few times, not once a chunk.
        chunk = self._stream.read(max(self._table.chunk, len(held)))
        try:
            self._held = held + self._decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            offset = self._fed + len(chunk) - len(error.object) + error.start
            line = self._line + held.count("\n") + error.object.count(b"\n", 0, error.start)
            found = not_utf8(self._table.where(line), offset, error.object[error.start])
            raise Unreadable(found.reason, found.problem) from None
        self._at = 0
        self._fed += len(chunk)
        return bool(chunk)
