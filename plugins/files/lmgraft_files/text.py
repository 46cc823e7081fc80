"""Plain text as documents: cut at blank lines, without losing or repeating a byte."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

from lmgraft.seams.data_source import Damaged

from lmgraft_files.opening import BOM, Place, not_utf8, opened
from lmgraft_files.plugin import FilesConfig

__all__ = ["read_pieces"]

BLANK_LINES = re.compile(rb"\n(?:[ \t\r]*\n)+")


def read_pieces(path: str, start: int, end: int | None, config: FilesConfig) -> Iterator[str | Damaged]:
    """The text of ``path`` in pieces of at most ``document_bytes`` UTF-8 bytes; what is not UTF-8 is damaged.

    With ``end``, only the range ``[start, end)`` is read, both moved back to a place where a cut does least harm, so
    that ranges which touch stay disjoint and leave nothing out. A byte order mark at the start of a file is no text.
    Raises Unreadable where the file cannot be read on.
    """
    limit = config.document_bytes
    with opened(path, config.expansion) as stream:
        position = 0
        read: Callable[[int], bytes] = stream.read
        if end is not None:
            position, stop = _align(stream, start, limit), _align(stream, end, limit)
            stream.seek(position)
            read = _bounded(stream, stop - position)
        place, lines = Place(path, position), 0
        for piece in _pieces(read, limit):
            body = piece.removeprefix(BOM) if position == 0 else piece
            try:
                yield body.decode("utf-8")
            except UnicodeDecodeError as error:
                where = place.where(lines + body.count(b"\n", 0, error.start))
                at = position + len(piece) - len(body) + error.start
                yield not_utf8(where, at, body[error.start], len(piece))
            position += len(piece)
            lines += piece.count(b"\n")


def _pieces(read: Callable[[int], bytes], limit: int) -> Iterator[bytes]:
    window = read(limit + 1)
    while len(window) > limit:
        at = _cut(window, limit)
        yield window[:at]
        window = window[at:] + read(at)
    if window:
        yield window


def _cut(data: bytes, limit: int) -> int:
    """The best place to cut ``data`` (longer than ``limit``), in 1..limit.

    After the last blank line; else after the last line; else after the last space; else between two characters.
    """
    paragraph = 0
    for match in BLANK_LINES.finditer(data, 0, limit):
        paragraph = match.end()
    if paragraph:
        return paragraph
    newline = data.rfind(b"\n", 0, limit) + 1
    if newline:
        return newline
    space = data.rfind(b" ", 0, limit) + 1
    if space:
        return space
    at = limit
    while at > max(0, limit - 4) and data[at] & 0xC0 == 0x80:  # a continuation byte belongs to the one before
        at -= 1
    return at if data[at] & 0xC0 != 0x80 and at > 0 else limit


def _align(stream: BinaryIO, at: int, limit: int) -> int:
    """Where the range that nominally starts at ``at`` really starts: at most ``limit`` bytes earlier."""
    first = max(0, at - limit)
    stream.seek(first)
    window = stream.read(at - first + 1)
    if at == 0 or len(window) <= at - first:  # the start or the end of the file
        return at
    return first + _cut(window, at - first)


def _bounded(stream: BinaryIO, left: int) -> Callable[[int], bytes]:
    def read(size: int) -> bytes:
        nonlocal left
        data = stream.read(min(size, left))
        left -= len(data)
        return data

    return read
