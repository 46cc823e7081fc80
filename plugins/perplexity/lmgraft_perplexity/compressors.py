"""What gzip -9 and xz -9 make of a text: the yardstick beside a model's bits per byte, in constant memory."""

from __future__ import annotations

import lzma
import zlib
from typing import Protocol

__all__ = ["Compressed", "compressors"]

#: zlib writes a gzip container with this added to the window's exponent (15, as gzip itself uses).
GZIP_CONTAINER = 16 + 15


class _Stream(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class Compressed:
    """Counts the bytes that come out of a compressor and throws them away."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream
        self._size = 0

    def add(self, data: bytes) -> None:
        self._size += len(self._stream.compress(data))

    def finish(self) -> int:
        """The whole size in bytes, container included; nothing can be added afterwards."""
        self._size += len(self._stream.flush())
        return self._size


def compressors() -> dict[str, Compressed]:
    """The byte counts of ``gzip -9`` (zlib's header holds no time and no name, as ``gzip -n``) and ``xz -9``."""
    return {
        "gzip": Compressed(zlib.compressobj(9, zlib.DEFLATED, GZIP_CONTAINER)),
        "xz": Compressed(lzma.LZMACompressor(lzma.FORMAT_XZ, preset=9)),
    }
