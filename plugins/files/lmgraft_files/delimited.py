"""CSV and TSV, as RFC 4180 has them: a header, and quotes around fields that hold delimiters, quotes or line ends."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any, BinaryIO

from lmgraft.errors import Problem
from lmgraft.rows.reader import RowReader
from lmgraft.seams.data_source import Damaged, Unreadable

from lmgraft_files.opening import BOM, Lines, Place, not_utf8, opened
from lmgraft_files.plugin import FilesConfig
from lmgraft_files.table import Row, too_long

__all__ = ["Delimited"]

_ENDED = "unexpected end of data"
_REMEDY = "mend it; where quotes are plain text, set files.quotes=false"


class Delimited:
    """A record is one row, its fields are texts. A place is the number of the line where it begins, from 0.

    A quote that is opened and never closed swallows lines: they are not taken for rows, and the rest of the file is
    lost. So is what follows a record too long for memory that ends within quotes.
    """

    def __init__(self, path: str, config: FilesConfig, reader: RowReader, delimiter: str) -> None:
        self.path, self.config, self.reader = path, config, reader
        quoting = csv.QUOTE_MINIMAL if config.quotes else csv.QUOTE_NONE
        self._dialect: dict[str, Any] = {"delimiter": config.delimiter or delimiter, "quoting": quoting, "strict": True}
        self._place = Place(path)

    def rows(self) -> Iterator[Row | Damaged]:
        # The library's own limit is one for the whole process; here the lines are counted before it sees them.
        csv.field_size_limit(max(csv.field_size_limit(), self.config.row_bytes + 1))
        with opened(self.path, self.config.expansion) as stream:
            lines = _Records(stream, self.config.row_bytes)
            parser = csv.reader(lines, **self._dialect)
            header = self._header(parser, lines)
            while True:
                found = self._record(parser, lines)
                if found is None:
                    return
                if isinstance(found, Damaged):
                    yield found
                elif found:
                    yield self._row(header, found, lines)

    def where(self, place: int) -> str:
        return self._place.where(place)

    def _header(self, parser: Iterator[list[str]], lines: _Records) -> list[str]:
        header: list[str] | Damaged | None = []
        while header == []:
            header = self._record(parser, lines)
        if isinstance(header, Damaged):
            raise Unreadable(header.reason, header.problem, header.bytes)
        names = header or []
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            fact = f"files: {self.path} has two columns {twice!r}"
            raise Unreadable("bad_csv", Problem(fact, "its first line names the columns", "give each its own name"))
        for key in self.reader.keys:
            if key not in names:
                raise self.reader.lacks(key, names).unreadable(f"files: {self.path}")
        return names

    def _record(self, parser: Iterator[list[str]], lines: _Records) -> list[str] | Damaged | None:
        """The fields of the next record, [] for a blank line; None at the end of the file."""
        lines.begin()
        try:
            fields = next(parser, None)
        except _TooLong:
            problem = too_long(self.where(lines.first), lines.size, self.config.row_bytes)
            if lines.open and self.config.quotes:
                raise Unreadable("too_long", problem, lines.size) from None
            return Damaged("too_long", problem, lines.size)
        except csv.Error as error:
            if str(error) == _ENDED:
                fact = f"files: {self.where(lines.first)}: a quote is opened and never closed"
                problem = Problem(fact, "all that follows it would be one field", _REMEDY)
                raise Unreadable("bad_csv", problem, lines.size) from None
            fact = f"files: {self.where(lines.first)} is no CSV"
            return Damaged("bad_csv", Problem(fact, str(error), _REMEDY), lines.size)
        if lines.bad is not None:
            return not_utf8(self.where(lines.bad[2]), lines.bad[0], lines.bad[1], lines.size)
        return fields

    def _row(self, header: list[str], fields: list[str], lines: _Records) -> Row | Damaged:
        if len(fields) == len(header):
            return Row(lines.first, dict(zip(header, fields, strict=True)), lines.size)
        fact = f"files: {self.where(lines.first)} has {len(fields)} fields"
        problem = Problem(fact, f"the header names {len(header)} columns", _REMEDY)
        return Damaged("bad_csv", problem, lines.size)


class _TooLong(Exception):
    pass


class _Records:
    """The lines of one record after another, as csv asks for them."""

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        self._lines, self._limit = Lines(stream, limit), limit
        self._position = self._number = 0
        self.begin()

    def begin(self) -> None:
        """A new record begins at the next line."""
        self.first, self.size, self._quotes = self._number, 0, 0
        self.bad: tuple[int, int, int] | None = None
        """(offset, byte, line) of what is not UTF-8."""

    @property
    def open(self) -> bool:
        """Whether a quote is open after what has been read of the record."""
        return self._quotes % 2 == 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._lines.next()
        if line == b"":
            raise StopIteration
        self._number += 1
        if line is None:
            self._took(*self._lines.skip())
            raise _TooLong
        body = line.removeprefix(BOM) if self._position == 0 else line
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError as error:
            at = self._position + len(line) - len(body) + error.start
            self.bad = self.bad or (at, body[error.start], self._number - 1)
            text = body.decode("utf-8", "replace")
        self._took(len(line), line.count(b'"'))
        if self.size > self._limit:
            raise _TooLong
        return text

    def _took(self, size: int, quotes: int) -> None:
        self.size += size
        self._position += size
        self._quotes += quotes
