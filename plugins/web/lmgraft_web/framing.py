"""Records of WARC and ARC files, cut out of plain bytes with one look at each.

FastWARC reads what is inside a record; where records begin and end is found here, because it passes over a record that
was cut short, and stops for good at a broken one. Formats: WARC 1.0 and 1.1 (ISO 28500), ARC 1 and 2 (Internet
Archive). After a broken record reading goes on at the next compressed member or line that begins one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lmgraft_web.archive_bytes import Break, Chunk, starts_record

__all__ = ["Broken", "NoArchive", "Record", "read_records"]

#: Longest header of a record.
HEADER = 32 << 10
_VERSION = re.compile(rb"WARC/\d\.\d+[ \t]*\r?\n")
_BLANK = re.compile(rb"\r?\n\r?\n")
_LENGTH = re.compile(rb"^content-length[ \t]*:[ \t]*(\d{1,15})[ \t]*\r?$", re.I | re.M)
_TYPE = re.compile(rb"^warc-type[ \t]*:[ \t]*([a-z]+)[ \t]*\r?$", re.I | re.M)
_NEXT = re.compile(rb"\nWARC/\d\.\d+[ \t]*\r?\n|\n(?:https?|filedesc)://[^\n ]+ [\d.]+ \d{14} [^\n ]+ \d+\r?\n")
#: URL, address, date, MIME type, (of version 2: result, checksum, location, offset, file,) length.
_ARC = re.compile(
    rb"([a-z][a-z0-9+.-]*:\S*(?: \S+)*?) (\S+) (\d{12,14}) (\S+) (?:\S+ \S+ \S+ \S+ \S+ )?(\d{1,15})[ \r]*\n", re.I
)


class NoArchive(Exception):
    """The very first bytes are neither WARC nor ARC."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record."""

    place: str
    """Where it begins: the offset in the file; of a compressed one its member's and, after a ``+``, the offset in the
    plain bytes from there."""
    type: str
    """``response``, ``request``, ...; an ARC's first record is ``warcinfo``, the others ``response``."""
    head: bytes
    """Its header as WARC writes it, the blank line included."""
    block: bytes
    """What follows; only its beginning where all of it is too long to be held."""
    length: int
    """Bytes of the block as the header gives them."""
    fault: str = ""
    """Empty, or what is wrong: ``truncated``, ``bad_length``, ``bad_members``, ``bad_gzip``..."""
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Broken:
    """Bytes that are no record."""

    place: str
    reason: str
    cause: str
    bytes: int


def read_records(pieces: Iterable[Chunk | Break], limit: int) -> Iterator[Record | Broken]:
    """The records in order. Of blocks above ``limit`` bytes only the beginning is held.

    Raises NoArchive where the file does not begin with a record.
    """
    window = _Window(iter(pieces))
    while window.begin():
        if window.broken is not None:
            broken, window.broken = window.broken, None
            yield Broken(str(broken.member), broken.reason, broken.cause, broken.bytes)
            continue
        yield _warc(window, limit) if window.starts(b"WARC/") else _arc(window, limit)
        window.fresh = False


class _Window:
    """Plain bytes that were read and not used."""

    def __init__(self, pieces: Iterator[Chunk | Break]) -> None:
        self.pieces = pieces
        self.data = bytearray()
        self.at = 0
        """How much of ``data`` is used."""
        self.member, self.inner = -1, 0
        """Where the unused bytes begin: the member, and the offset in it."""
        self.next: Chunk | None = None
        """A chunk that begins a record: nothing before it goes on there."""
        self.broken: Break | None = None
        self.crossed = False
        """Whether a member began inside the record."""
        self.fresh = True
        """Nothing was read yet."""

    def begin(self) -> bool:
        """Moves to the next record (or to what is broken); False at the end."""
        self.crossed = False
        while True:
            while self.fill(1) and self.data[self.at] in b"\r\n":
                self.use(1)
            if self.left() or self.broken is not None:
                return True
            if self.next is None:
                return False
            self._enter(self.next)

    def place(self) -> str:
        if self.member < 0:
            return str(self.inner)
        return f"{self.member}+{self.inner}" if self.inner else str(self.member)

    def left(self) -> int:
        return len(self.data) - self.at

    def starts(self, word: bytes) -> bool:
        self.fill(len(word))
        return self.data.startswith(word, self.at)

    def fill(self, size: int) -> bool:
        """Loads until ``size`` unused bytes are there; False where the member, its records or the file end before."""
        while self.left() < size:
            if self.next is not None or self.broken is not None:
                return False
            piece = next(self.pieces, None)
            if piece is None:
                return False
            if isinstance(piece, Break):
                self.broken = piece
                return False
            if piece.first and starts_record(piece.data) and (self.left() or not self.fresh):
                self.next = piece
                return False
            self._add(piece)
        return True

    def _add(self, piece: Chunk) -> None:
        if piece.first and not self.left():
            self._enter(piece)
            return
        self.crossed |= piece.first
        if self.at > 1 << 16:
            del self.data[: self.at]
            self.at = 0
        self.data += piece.data

    def _enter(self, piece: Chunk) -> None:
        self.crossed |= piece is not self.next and not self.fresh
        self.data, self.at = bytearray(piece.data), 0
        self.member, self.inner, self.next = piece.member, 0, None

    def use(self, size: int) -> None:
        self.at += size
        self.inner += size

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes, or those that are left."""
        self.fill(size)
        data = bytes(self.data[self.at : self.at + size])
        self.use(len(data))
        return data

    def skip(self, size: int) -> int:
        """As ``take``, and nothing is held; how many there were."""
        done = 0
        while done < size and self.fill(1):
            step = min(self.left(), size - done)
            self.use(step)
            done += step
        return done

    def push(self, data: bytes) -> None:
        """Puts bytes that were taken back."""
        self.data[: self.at] = data
        self.at = 0
        self.inner -= len(data)

    def seek(self) -> int:
        """Moves to the next line that begins a record, or to a boundary; how many bytes that passes over."""
        done = 0
        while True:
            found = _NEXT.search(self.data, self.at)
            if found:
                step = found.start() + 1 - self.at
                self.use(step)
                return done + step
            step = max(0, self.left() - HEADER)
            self.use(step)
            done += step
            if not self.fill(self.left() + 1):
                step = self.left()
                self.use(step)
                return done + step


def _warc(window: _Window, limit: int) -> Record | Broken:
    place = window.place()
    head, wrong = _warc_head(window)
    if wrong:
        return Broken(place, "bad_header", wrong, window.seek())
    length, kind = _LENGTH.search(head), _TYPE.search(head)
    if length is None or kind is None:
        missing = "Content-Length" if length is None else "WARC-Type"
        return Broken(place, "bad_header", f"the record has no {missing} that can be read", len(head) + window.seek())
    return _block(window, place, kind[1].decode().lower(), head, int(length[1]), limit, b"\r\n\r\n")


def _warc_head(window: _Window) -> tuple[bytes, str]:
    """The header with the blank line after it; or what is wrong."""
    size = 256
    while True:
        whole = window.fill(size)
        found = _BLANK.search(window.data, window.at, window.at + HEADER)
        if found or not whole or size >= HEADER:
            break
        size *= 2
    if not _VERSION.match(window.data, window.at):
        return b"", "the line is no WARC/1.x"
    if not found:
        return b"", "its header does not end" + ("" if whole else ": the file or its member is cut short")
    return window.take(found.end() - window.at), ""


def _arc(window: _Window, limit: int) -> Record | Broken:
    place = window.place()
    window.fill(HEADER)
    end = window.data.find(b"\n", window.at, window.at + HEADER) + 1
    line = _ARC.fullmatch(bytes(window.data[window.at : end])) if end else None
    if line is None:
        if window.fresh:
            raise NoArchive
        return Broken(place, "bad_header", "no record of WARC or ARC begins here", window.seek())
    window.use(len(line[0]))
    url, address, date, mime, length = line.groups()
    return _block(window, place, *_as_warc(url, address, date, mime, length), int(length), limit, b"\n")


def _as_warc(url: bytes, address: bytes, date: bytes, mime: bytes, length: bytes) -> tuple[str, bytes]:
    """The type and the header that WARC would give a record of ARC."""
    time = date.decode().ljust(14, "0")
    stamp = f"{time[:4]}-{time[4:6]}-{time[6:8]}T{time[8:10]}:{time[10:12]}:{time[12:]}Z".encode()
    web = url.lower().startswith((b"http:", b"https:"))
    kind = "response" if web else "warcinfo" if url.startswith(b"filedesc:") else "resource"
    content = b"application/http; msgtype=response" if web else mime
    lines = [b"WARC/1.0", b"WARC-Type: " + kind.encode(), b"WARC-Target-URI: " + url, b"WARC-Date: " + stamp]
    lines += [b"WARC-IP-Address: " + address, b"Content-Type: " + content, b"Content-Length: " + length]
    return kind, b"\r\n".join(lines) + b"\r\n\r\n"


def _block(window: _Window, place: str, kind: str, head: bytes, length: int, limit: int, end: bytes) -> Record:
    held = length <= limit
    block = window.take(length if held else min(length, HEADER))
    there = len(block) + (0 if held else window.skip(length - len(block)))
    crossed = window.crossed  # also where the line after the record is in a member of its own
    fault, cause = "", ""
    if there < length:
        fault, cause = "truncated", f"{there} of its {length} bytes are there"
    elif not _ends(window, end):
        fault, cause = "bad_length", "what follows its bytes is not the end of a record"
    if fault and window.broken is not None and not window.left():
        fault, cause = window.broken.reason, f"{cause}; {window.broken.cause}"
        window.broken = None
    elif fault and held and window.next is None and not window.starts(b"WARC/"):
        window.push(block)  # its length may be wrong, and have taken in what follows
        window.seek()
    if crossed and not fault:
        cause = "a compressed member begins inside it; `fastwarc recompress OLD NEW` mends that"
        fault = "bad_members"
    return Record(place, kind, head, block, length, fault, cause)


def _ends(window: _Window, end: bytes) -> bool:
    """Whether the record ends as it should, or with the file or its member. Moves past the line breaks."""
    window.fill(len(end) + 5)
    found = bytes(window.data[window.at : window.at + len(end)])
    breaks = 0
    while window.fill(1) and window.data[window.at] in b"\r\n":
        window.use(1)
        breaks += 1
    return found in (end, b"\n\n"[: len(end)]) or (breaks == window.left() == 0)
