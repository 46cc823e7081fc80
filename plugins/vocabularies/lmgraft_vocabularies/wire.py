"""Protocol buffers' wire format, as far as a SentencePiece model needs it.

A model is a few kinds of field, so reading it needs neither of two compiled libraries; and what a stranger's file holds
reaches no C++: it is checked here, byte by byte, and refused in three lines.
Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

__all__ = ["WireError", "bytes_field", "fields", "float_field", "varint_field"]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10


class WireError(ValueError):
    """The bytes are no message."""


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field: an int for a varint, bytes for all others (fixed ones little-endian)."""
    place, end = 0, len(data)
    while place < end:
        tag, place = _varint(data, place)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise WireError(f"byte {place} begins a field with the number 0")
        if kind == VARINT:
            value, place = _varint(data, place)
            yield number, value
            continue
        if kind == BYTES:
            size, place = _varint(data, place)
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
        else:
            raise WireError(f"byte {place} begins a field of the unknown kind {kind}")
        if place + size > end:
            raise WireError(f"a field of {size:,} bytes begins at byte {place:,}, and the file ends at {end:,}")
        yield number, data[place : place + size]
        place += size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(_LONGEST_VARINT):
        if place >= len(data):
            raise WireError(f"it ends within a number, at byte {place:,}")
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, place
    raise WireError(f"the number that ends at byte {place:,} is too long")


def varint_field(number: int, value: int) -> bytes:
    """A field that holds a number of 0 or more."""
    return _written(number << 3 | VARINT) + _written(value)


def bytes_field(number: int, value: bytes) -> bytes:
    """A field that holds bytes, text or another message."""
    return _written(number << 3 | BYTES) + _written(len(value)) + value


def float_field(number: int, value: float) -> bytes:
    """A field that holds a float32."""
    return _written(number << 3 | FIXED32) + struct.pack("<f", value)


def _written(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
