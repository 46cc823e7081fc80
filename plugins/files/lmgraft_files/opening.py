"""Opening files, compressed or not, as plain byte streams whose faults are told in the user's terms."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

import zstandard
from lmgraft.errors import Problem, UserError

__all__ = ["BOM", "line_at", "not_utf8", "opened", "utf8"]

BOM = b"\xef\xbb\xbf"
CHUNK = 1 << 17


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """The (decompressed) bytes of a file. Raises UserError where it cannot be read or its archive is corrupt."""
    try:
        with _open(path) as stream:
            yield stream
    except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        problem = Problem(
            f"files: {path} is corrupt or cut short",
            f"decompressing it failed: {error}",
            "fetch or make the file again; `gzip -t` or `zstd -t` tells whether it is whole",
        )
        raise UserError(problem) from None
    except OSError as error:
        problem = Problem(
            f"files: {path} cannot be read", error.strerror or str(error), "check that it exists and who may read it"
        )
        raise UserError(problem) from None


def utf8(data: bytes, path: str, offset: int) -> str:
    """``data`` as text; ``offset`` is where it starts in the decompressed file. Raises UserError."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise not_utf8(path, offset + error.start, data[error.start]) from None


def not_utf8(path: str, offset: int, byte: int) -> UserError:
    """The error for a byte that UTF-8 does not allow, with its line."""
    # A byte order mark of UTF-16 is what Windows editors leave; everything else is most often Latin-1.
    guess = "utf-16" if offset == 0 and byte in (0xFE, 0xFF) else "latin1"
    problem = Problem(
        f"files: {path}:{line_at(path, offset)} is not UTF-8",
        f"the byte 0x{byte:02x} at offset {offset} does not belong there",
        f"convert the file, as in: iconv -f {guess} -t utf-8 OLD > NEW",
    )
    return UserError(problem)


def line_at(path: str, offset: int) -> int:
    """The number of the line, from 1, that holds the byte at ``offset``. Reads the file again: for messages only."""
    lines, left = 1, offset
    with opened(path) as stream:
        while left > 0 and (chunk := stream.read(min(left, CHUNK))):
            lines += chunk.count(b"\n")
            left -= len(chunk)
    return lines


def _open(path: str) -> BinaryIO:
    name = path.lower()
    if name.endswith(".gz"):
        return cast("BinaryIO", gzip.open(path, "rb"))
    if name.endswith(".zst"):
        return cast("BinaryIO", io.BufferedReader(_Zstd(path), CHUNK))
    return open(path, "rb")


class _Zstd(io.RawIOBase):
    """All frames of a zstd file. zstandard's own reader takes a file that was cut short for a whole one."""

    def __init__(self, path: str) -> None:
        self._raw = open(path, "rb")  # noqa: SIM115 - closed with this object
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 31)  # what `zstd --long=31` writes
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._ready:
            chunk = self._raw.read(CHUNK)
            if not chunk:
                if self._frame is not None:
                    raise EOFError("the file ends inside a frame")
                return 0
            self._ready = memoryview(self._decompress(chunk))
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()

    def _decompress(self, chunk: bytes) -> bytes:
        parts = []
        while chunk:
            self._frame = self._frame or self._decompressor.decompressobj()
            parts.append(self._frame.decompress(chunk))
            chunk = b""
            if self._frame.eof:
                chunk = self._frame.unused_data
                self._frame = None
        return b"".join(parts)
