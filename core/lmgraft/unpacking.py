"""Compressed files as streams of bytes, in bounded memory: member after member, and no zip bomb to its end.

gzip (RFC 1952), zstd (RFC 8878), bzip2 and xz. What a step gives is bounded: by ``STEP``, or for zstd by what 4 kB of
it can hold, 128 MiB.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from typing import Any, Protocol

import zstandard

__all__ = ["COMPRESSED", "Corrupt", "ZipBomb", "unpacked"]

CHUNK = 1 << 17
STEP = 1 << 20
#: Of a zstd file, decompressed at one time: a block of four bytes can become 128 kB, and the library knows no limit.
ZSTD_STEP = 1 << 12
#: What a compressed file may hold, whatever it expands by.
HARMLESS = 64 << 20


class Corrupt(Exception):
    """The archive is broken."""

    def __init__(self, message: str, truncated: bool = False) -> None:
        super().__init__(message)
        self.truncated = truncated
        """It ends too early."""


class ZipBomb(Exception):
    """It expands by more than is allowed."""

    def __init__(self, read: int, gave: int) -> None:
        super().__init__(f"{read:,} bytes gave {gave:,}")
        self.read = read
        """Bytes that were read of the file."""
        self.gave = gave
        """Bytes that they gave."""


class _Decoder(Protocol):
    """One member of an archive, as bz2's and lzma's decompressors are."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    def __init__(self) -> None:
        self._raw = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._raw.eof

    @property
    def needs_input(self) -> bool:
        return not self._raw.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._raw.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._raw.decompress(self._raw.unconsumed_tail + data, max_length)


class _Zstd:
    def __init__(self) -> None:
        # The window is what `zstd --long=31` writes.
        self._raw = zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
        self._held = b""

    @property
    def eof(self) -> bool:
        return bool(self._raw.eof)

    @property
    def needs_input(self) -> bool:
        return not self._held

    @property
    def unused_data(self) -> bytes:
        return self._raw.unused_data + self._held

    def decompress(self, data: bytes, max_length: int) -> bytes:
        held = self._held + data
        self._held = held[ZSTD_STEP:]
        return self._raw.decompress(held[:ZSTD_STEP])


COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
"""The endings of files that can be unpacked."""
_DECODERS: dict[str, Callable[[], Any]] = {
    ".gz": _Gzip,
    ".zst": _Zstd,
    ".bz2": bz2.BZ2Decompressor,
    ".xz": lzma.LZMADecompressor,
}
_ERRORS = (zlib.error, zstandard.ZstdError, lzma.LZMAError, OSError, ValueError)


def unpacked(path: str, kind: str, expansion: int) -> io.BufferedReader:
    """The bytes of all members of a file, one after another; ``kind`` is its ending.

    Reading raises :class:`Corrupt`, and :class:`ZipBomb` once the file has given more than 64 MiB and more than
    ``expansion`` times what was read of it.
    """
    return io.BufferedReader(_Members(path, _DECODERS[kind], expansion), CHUNK)


class _Members(io.RawIOBase):
    """One member after another; zeros between them and at the end are padding."""

    def __init__(self, path: str, decoder: Callable[[], _Decoder], expansion: int) -> None:
        self._raw = open(path, "rb")  # noqa: SIM115 - closed with this object
        self._new, self._member = decoder, decoder()
        self._started = False  # the member has been given something
        self._waiting = b""  # read and not yet given to a member
        self._ready = memoryview(b"")
        self._expansion = expansion
        self._read = self._gave = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            if not self._step():
                return 0
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()

    def _step(self) -> bool:
        """Decompresses some more; False at the end of the file."""
        data, ended = b"", False
        if self._member.needs_input:
            data, self._waiting = self._waiting or self._raw.read(CHUNK), b""
            self._read += len(data)
            ended = not data
        if not self._started:
            data = data.lstrip(b"\0") if self._read > len(data) else data
            if not data:
                return not ended
        self._started = True
        try:
            found = self._member.decompress(data, STEP)
        except _ERRORS as error:
            raise Corrupt(str(error)) from None
        if ended and not found and not self._member.eof:
            raise Corrupt("it ends in the middle", truncated=True)
        self._give(found)
        if self._member.eof:
            self._waiting = self._member.unused_data
            self._read -= len(self._waiting)
            self._member, self._started = self._new(), False
        return True

    def _give(self, found: bytes) -> None:
        self._gave += len(found)
        if self._gave > max(HARMLESS, self._expansion * self._read):
            raise ZipBomb(self._read, self._gave)
        self._ready = memoryview(found)
