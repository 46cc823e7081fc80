"""SentencePiece's table of characters: which single characters it changes.

``tokenizers`` looks the table up by grapheme. One of fewer than six bytes is replaced as a whole by what its shortest
known beginning becomes, so a full-width letter with an accent loses the accent, where sentencepiece keeps it. A
character of the private use area between the two keeps them apart; where the table has the two as one, no character is
lost, but sentencepiece would compose them.

The table is a double-array trie of darts-clone (32-bit units) behind its size in bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

__all__ = ["BREAK", "apart", "changed"]

#: Stands between a character and its marks while the table is looked up.
BREAK = "\U0010fffd"
#: Marks, and the other characters of three bytes that belong to the grapheme before them.
_MARKS = r"\p{M}\x{200C}\x{200D}\x{0E33}\x{0EB3}\x{FF9E}\x{FF9F}"


def apart(charsmap: bytes) -> str:
    """Oniguruma's pattern for places, of no width, at which a grapheme is broken: behind characters that the table
    changes by themselves, and between two marks."""
    letters = "".join(f"\\x{{{first:X}}}-\\x{{{last:X}}}" for first, last in _runs(changed(charsmap)))
    return rf"(?<=[{letters}{_MARKS}])(?=[{_MARKS}])|(?<=\r)(?=\n)"


def changed(charsmap: bytes) -> list[int]:
    """The code points that the table changes by themselves, ascending; none where it is damaged."""
    if len(charsmap) < 8:
        return []
    size = min(struct.unpack("<I", charsmap[:4])[0], len(charsmap) - 4) // 4
    units = struct.unpack(f"<{size}I", charsmap[4 : 4 + 4 * size])
    found = []
    for key in _keys(units, _offset(units[0]) if units else 0, b""):
        try:
            found.append(ord(key.decode()))
        except UnicodeDecodeError:
            continue
    return sorted(found)


def _keys(units: tuple[int, ...], place: int, key: bytes) -> Iterator[bytes]:
    """The keys of one character below a node."""
    length = _length(key[0]) if key else 4
    if len(key) == length:
        return
    for byte in range(1, 256) if not key else range(0x80, 0xC0):
        at = place ^ byte
        if at >= len(units) or units[at] & 0x800000FF != byte:
            continue
        longer = key + bytes([byte])
        if units[at] >> 8 & 1 and len(longer) == _length(longer[0]):
            yield longer
        yield from _keys(units, at ^ _offset(units[at]), longer)


def _length(first: int) -> int:
    """Bytes of the character that begins with this one."""
    return 1 if first < 0x80 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4


def _offset(unit: int) -> int:
    return unit >> 10 << ((unit & 1 << 9) >> 6)


def _runs(codes: list[int]) -> Iterator[tuple[int, int]]:
    first = last = -1
    for code in codes:
        if code != last + 1 or first < 0:
            if first >= 0:
                yield first, last
            first = code
        last = code
    if first >= 0:
        yield first, last
