"""SentencePiece's table of characters, so that llama.cpp changes what lmgraft changes.

llama.cpp replaces the longest stretch that the table knows. ``tokenizers`` looks up whole graphemes of fewer than six
bytes and single characters otherwise, and lmgraft's converter keeps letters that the table changes apart from their
marks. So of the stretches of several characters only a letter with one mark is ever found; llama.cpp gets a table
without the others.

The table is a double array of 32-bit units behind its size in bytes, and the texts that stretches become behind that
(darts-clone, as in SentencePiece's normalizer). A unit holds its label (bits 0 to 7), whether a stretch ends there (8)
and the way to its children (10 to 30, in steps of 256 where bit 9 is set): the child of label c of the unit at p stands
at p ^ way ^ c, and at p ^ way what the stretch becomes, under bit 31.
"""

from __future__ import annotations

import struct
import unicodedata
from collections.abc import Iterable, Mapping

__all__ = ["as_read_here", "packed", "stretches"]

_ENDS, _VALUE = 1 << 8, 1 << 31
_JOINER = "\u200d"
#: Beyond these a table is damaged: SentencePiece's largest has 224,725, of four characters.
_LONGEST, _MOST = 256, 4_000_000


def as_read_here(table: bytes) -> bytes:
    """The table without stretches that ``tokenizers`` never looks up; empty where none is left.

    :raises ValueError: it is no table.
    """
    if len(table) < 8:
        raise ValueError("its table of characters has fewer than eight bytes")
    size = struct.unpack("<I", table[:4])[0]
    if size % 4 or not 0 < size < len(table) - 4:
        raise ValueError("its table of characters ends before its size says")
    found = stretches(struct.unpack(f"<{size // 4}I", table[4 : 4 + size]))
    kept = {text: value for text, value in found.items() if _looked_up(text, found)}
    if not kept:
        return b""
    if max(kept.values()) >= len(table) - 4 - size:
        raise ValueError("its table of characters leads behind its texts")
    units = packed(kept)
    return struct.pack(f"<{len(units) + 1}I", 4 * len(units), *units) + table[4 + size :]


def stretches(units: Iterable[int]) -> dict[str, int]:
    """Every stretch in a double array -> where the text begins that it becomes."""
    held = list(units)
    below: dict[int, list[tuple[int, int]]] = {}
    for place, unit in enumerate(held):
        label = unit & (_VALUE | 0xFF)
        if 0 < label < 256:
            below.setdefault(place ^ label, []).append((label, place))
    found: dict[str, int] = {}
    waiting, seen = [(_way(held[0]), b"")], 0
    while waiting:
        base, key = waiting.pop()
        seen += 1
        for label, place in below.get(base, ()):
            longer, own = key + bytes([label]), place ^ _way(held[place])
            if held[place] & _ENDS and own >= len(held):
                raise ValueError("its table of characters leads out of itself")
            if held[place] & _ENDS:
                found[longer.decode("utf-8", "surrogateescape")] = held[own] & (_VALUE - 1)
            if len(longer) > _LONGEST or seen > _MOST:
                raise ValueError("its table of characters leads back to itself")
            waiting.append((own, longer))
    return found


def packed(found: Mapping[str, int]) -> list[int]:
    """The double array of one stretch at least: what :func:`stretches` reads."""
    values = {text.encode("utf-8", "surrogateescape"): value for text, value in found.items()}
    labels: dict[bytes, set[int]] = {b"": set()}
    for key in values:
        for end in range(len(key)):
            labels.setdefault(key[:end], set()).add(key[end])
        labels.setdefault(key, set()).add(0)
    bases = _bases(labels)
    units = [0] * 256 * (max(bases.values()) // 256 + 1)
    places = {b"": 0}
    for key in sorted(labels):  # a unit comes before its children
        base = bases[key]
        for label in labels[key] - {0}:
            places[key + bytes([label])] = base ^ label
            units[base ^ label] = label
        units[places[key]] |= (base ^ places[key]) << 10
        if key in values:
            units[places[key]] |= _ENDS
            units[base] = _VALUE | values[key]
    return units


def _bases(labels: Mapping[bytes, set[int]]) -> dict[bytes, int]:
    """For every unit where its children stand, no two at one place; those with many children first, which fit worst."""
    found: dict[bytes, int] = {}
    taken, bases, place, size = {0}, set[int](), 1, 0
    for key in sorted(labels, key=lambda key: (-len(labels[key]), key)):
        own = sorted(labels[key])
        place, size = (place if len(own) == size else 1), len(own)
        while (place ^ own[0]) in bases or any((place ^ own[0] ^ label) in taken for label in own):
            place += 1
        found[key] = place ^ own[0]
        bases.add(found[key])
        taken.update(found[key] ^ label for label in own)
    return found


def _way(unit: int) -> int:
    return unit >> 10 << ((unit & 1 << 9) >> 6)


def _looked_up(text: str, known: Mapping[str, int]) -> bool:
    """A character, or a letter that the table leaves as it is with one mark, in fewer than six bytes."""
    if len(text) == 1:
        return True
    if len(text) != 2 or len(text.encode("utf-8", "surrogateescape")) >= 6:
        return False
    first, mark = text[0], text[1]
    return _is_mark(mark) and not _is_mark(first) and first not in known


def _is_mark(letter: str) -> bool:
    return letter == _JOINER or unicodedata.category(letter).startswith("M")
