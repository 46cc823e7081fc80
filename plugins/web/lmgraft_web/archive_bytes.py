"""The plain bytes of an archive (gzip, zstd, lz4 or none), bounded in memory and strict about its end.

FastWARC's gzip reader takes a file that was cut short for a whole one, and nothing goes on after a broken member.
Here a member that cannot be decompressed is told (:class:`Break`), and reading goes on at the next one that holds a
record. lz4 is FastWARC's own reader, which is strict already.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import zstandard

__all__ = ["Break", "Chunk", "chunks", "starts_record"]

CHUNK = 1 << 16
#: Of a member's compressed bytes so many are kept for a second look, should it be broken.
HELD = 1 << 20
#: How much of a place that looks like the start of a member is tried.
TRIAL = 4096
#: zstd's run-length blocks make 128 kB of four bytes: pieces of this size stay below 32 MB whatever they hold.
ZSTD_PIECE = 1 << 10

GZIP, ZSTD, LZ4 = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18"
#: The skippable frame in which .warc.zst files carry their dictionary (IIPC, "Zstandard in WARC").
DICTIONARY = b"\x5d\x2a\x4d\x18"
_RECORD = re.compile(rb"WARC/\d|(?:filedesc|https?|ftp|dns|metadata|whois)://?[^\n]{1,8192} \d{12,14} |dns:")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Plain bytes in a row."""

    data: bytes
    member: int
    """Where the member that holds them begins in the file; -1 where nothing is compressed."""
    first: bool
    """Whether the member begins with them."""


@dataclass(frozen=True, slots=True)
class Break:
    """A place where plain bytes are missing. The next chunk, if there is one, begins a record."""

    reason: str
    """``bad_gzip``, ``bad_zstd``, ``bad_lz4`` or ``truncated``."""
    member: int
    """Where the broken member begins."""
    cause: str
    bytes: int
    """Of the file, passed over."""


def starts_record(data: bytes | bytearray) -> bool:
    """Whether plain bytes begin as a record of WARC or ARC does."""
    return _RECORD.match(data) is not None


def chunks(raw: BinaryIO) -> Iterator[Chunk | Break]:
    """All plain bytes of ``raw``, at most some 32 MB at a time. Compression is told by the first bytes, not the name.

    Raises OSError where ``raw`` does.
    """
    feed = _Feed(raw)
    feed.want(8)
    head = bytes(feed.data[:4])
    if head.startswith(GZIP):
        yield from _members(feed, GZIP, "bad_gzip", _Gzip)
    elif head in (ZSTD, DICTIONARY):
        make, used = _zstd_with(feed)
        feed.drop(used)
        yield from _members(feed, ZSTD, "bad_zstd", make)
    elif head == LZ4:
        yield from _lz4(feed)
    else:
        yield from _plain(feed)


class _Member(Protocol):
    """One compressed member, from its first byte."""

    eof: bool
    rest: bytes
    """What it was given and has not taken."""

    def read(self, data: bytes) -> bytes: ...


class _Gzip:
    def __init__(self) -> None:
        self.inner = zlib.decompressobj(31)
        self.eof, self.rest = False, b""

    def read(self, data: bytes) -> bytes:
        out = self.inner.decompress(data, 4 * CHUNK)
        self.eof = self.inner.eof
        self.rest = self.inner.unused_data if self.eof else self.inner.unconsumed_tail
        return out


class _Zstd:
    def __init__(self, decompressor: zstandard.ZstdDecompressor) -> None:
        self.inner = decompressor.decompressobj()
        self.eof, self.rest = False, b""

    def read(self, data: bytes) -> bytes:
        out = self.inner.decompress(data[:ZSTD_PIECE])
        self.eof = self.inner.eof
        self.rest = self.inner.unused_data + data[ZSTD_PIECE:] if self.eof else data[ZSTD_PIECE:]
        return out


class _Feed:
    """The file's bytes in order, those just taken kept for a while."""

    def __init__(self, raw: BinaryIO) -> None:
        self.raw = raw
        self.data = b""
        self.at = 0
        """Where ``data`` begins in the file."""
        self.kept = bytearray()

    def want(self, size: int) -> bool:
        """Loads until ``size`` bytes are there; False where the file ends before."""
        while len(self.data) < size:
            more = self.raw.read(CHUNK)
            if not more:
                return False
            self.data += more
        return True

    def take(self, left: bytes) -> None:
        """All but ``left``, the end of ``data``, has been used."""
        used = len(self.data) - len(left)
        self.kept += self.data[:used]
        if len(self.kept) > 2 * HELD:
            del self.kept[:-HELD]
        self.at += used
        self.data = left

    def drop(self, size: int) -> None:
        self.data = self.data[size:]
        self.at += size
        self.kept.clear()

    def back_to(self, start: int) -> None:
        """Moves back to ``start``, or as near to it as is kept."""
        first = self.at - len(self.kept)
        begin = max(start, first)
        self.data = bytes(self.kept[begin - first :]) + self.data
        self.at = begin
        self.kept.clear()


def _plain(feed: _Feed) -> Iterator[Chunk]:
    first = True
    while feed.want(1):
        yield Chunk(feed.data, -1, first)
        feed.drop(len(feed.data))
        first = False


def _members(feed: _Feed, magic: bytes, reason: str, make: Callable[[], _Member]) -> Iterator[Chunk | Break]:
    while feed.want(1):
        if feed.data[0] == 0:  # a tape's padding
            feed.drop(len(feed.data) - len(feed.data.lstrip(b"\0")))
            continue
        start = feed.at
        try:
            yield from _member(feed, make())
            feed.kept.clear()
            continue
        except EOFError:
            broken = ("truncated", "the file ends inside a compressed member")
        except (zlib.error, zstandard.ZstdError) as error:
            broken = (reason, f"decompressing it failed: {error}")
        _resync(feed, start, magic, make)
        yield Break(broken[0], start, broken[1], feed.at - start)


def _member(feed: _Feed, member: _Member) -> Iterator[Chunk]:
    """One member. Its first chunk holds 16 bytes at least, or all of it. Raises EOFError where it does not end."""
    start, head, first = feed.at, b"", True
    while not member.eof:
        if not feed.want(1):
            raise EOFError
        out = member.read(feed.data)
        feed.take(member.rest)
        if first and len(head) + len(out) < 16 and not member.eof:
            head += out
        elif out or head:
            yield Chunk(head + out, start, first)
            head, first = b"", False


def _resync(feed: _Feed, start: int, magic: bytes, make: Callable[[], _Member]) -> None:
    """Moves to the next member after ``start`` that decompresses to the start of a record, or to the file's end."""
    feed.back_to(start + 1)
    while feed.want(len(magic)):
        found = feed.data.find(magic)
        if found < 0:
            feed.drop(len(feed.data) - len(magic) + 1)
            if not feed.want(len(magic)):
                break
            continue
        feed.drop(found)
        feed.want(TRIAL)
        if _tried(feed.data[:TRIAL], make()):
            return
        feed.drop(1)
    feed.drop(len(feed.data))


def _tried(data: bytes, member: _Member) -> bool:
    out = b""
    try:
        while data and not member.eof and len(out) < 64:
            out += member.read(data)
            data = member.rest
    except (zlib.error, zstandard.ZstdError):
        return False
    return starts_record(out)


def _zstd_with(feed: _Feed) -> tuple[Callable[[], _Member], int]:
    """How to make members, and the bytes that the dictionary before them takes."""
    dictionary, used = None, 0
    if feed.data.startswith(DICTIONARY):
        size = int.from_bytes(feed.data[4:8], "little")
        if size <= 16 << 20 and feed.want(8 + size):
            body, used = feed.data[8 : 8 + size], 8 + size
            if body.startswith(ZSTD):
                body = zstandard.ZstdDecompressor().decompress(body, max_output_size=16 << 20)
            dictionary = zstandard.ZstdCompressionDict(body)
    decompressor = zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=1 << 27)
    return lambda: _Zstd(decompressor), used


def _lz4(feed: _Feed) -> Iterator[Chunk | Break]:
    from fastwarc.stream_io import Lz4Reader

    base = 0
    while True:
        done, place, failed = 0, base, ""
        reader = Lz4Reader(_Tail(feed, base))
        try:
            while data := reader.read(CHUNK):
                yield Chunk(data, base, done == 0)
                done += len(data)
                place = reader.frame_start_position() or base
            if feed.raw.seekable() and not _lz4_whole(feed, place):
                yield Break("truncated", place, "the file ends inside a compressed member", feed.at - place)
            return
        except OSError as error:
            failed = str(error)
        last, place = _lz4_last(Lz4Reader(_Tail(feed, base)), done, place)
        if last:
            yield Chunk(last, base, done == 0)
        reason = "truncated" if "fill whole buffer" in failed or "end of file" in failed else "bad_lz4"
        following = _lz4_after(feed, place + 4)
        yield Break(reason, place, f"decompressing it failed: {failed}", following - place)
        if not feed.want(1):
            return
        base = following


class _Tail:
    """The file from ``base`` on, as a reader for FastWARC."""

    def __init__(self, feed: _Feed, base: int) -> None:
        self.feed = feed
        if feed.raw.seekable():
            feed.raw.seek(base)
            feed.data, feed.at = b"", base

    def read(self, size: int = -1) -> bytes:
        if not self.feed.want(1):
            return b""
        data = self.feed.data[:size] if size > 0 else self.feed.data
        self.feed.drop(len(data))
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        raise OSError("not seekable")

    def tell(self) -> int:
        return self.feed.at

    def close(self) -> None:
        """The file is the caller's."""


def _lz4_last(reader: object, done: int, place: int) -> tuple[bytes, int]:
    """What is whole after ``done`` plain bytes and before the failure, and the frame that failed: a read that fails
    gives nothing of what it had."""
    out = bytearray()
    try:
        while done > 0 and (data := reader.read(min(done, CHUNK))):  # type: ignore[attr-defined]
            done -= len(data)
        while data := reader.read(1):  # type: ignore[attr-defined]
            out += data
            place = reader.frame_start_position() or place  # type: ignore[attr-defined]
    except OSError:
        place = reader.frame_start_position() or place  # type: ignore[attr-defined]
    return bytes(out), place


def _lz4_after(feed: _Feed, start: int) -> int:
    """Where the next frame begins; the file's end where there is none."""
    if not feed.raw.seekable():
        feed.drop(len(feed.data))
        return feed.at
    _Tail(feed, start)
    while feed.want(4):
        found = feed.data.find(LZ4)
        if found >= 0:
            feed.drop(found)
            return feed.at
        feed.drop(len(feed.data) - 3)
        if not feed.want(4):
            break
    feed.drop(len(feed.data))
    return feed.at


def _lz4_whole(feed: _Feed, start: int) -> bool:
    """Whether the frames from ``start`` on end where the file does: FastWARC takes half a header for the file's end.

    LZ4 Frame Format 1.6: magic, flags, block sizes, [content size], [dictionary], checksum; blocks; end mark,
    [checksum].
    """
    _Tail(feed, start)
    while feed.want(1):
        if not feed.want(7):
            return False
        flags = feed.data[4]
        if feed.data[:4] != LZ4 or not _skip(feed, 7 + 8 * bool(flags & 8) + 4 * (flags & 1)):
            return feed.data[:4] != LZ4
        while feed.want(4):
            size = int.from_bytes(feed.data[:4], "little") & 0x7FFF_FFFF
            feed.drop(4)
            if size == 0:
                break
            if not _skip(feed, size + 4 * bool(flags & 16)):
                return False
        else:
            return False
        if not _skip(feed, 4 * bool(flags & 4)):
            return False
    return True


def _skip(feed: _Feed, size: int) -> bool:
    """Passes over ``size`` bytes; False where there are not so many."""
    while size:
        if not feed.want(1):
            return False
        step = min(size, len(feed.data))
        feed.drop(step)
        size -= step
    return True
