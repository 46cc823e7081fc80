"""What each character of Unicode is to a shingle: a table, made once in each process that sketches."""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np
import numpy.typing as npt

from lmgraft_minhash.hashing import U64, mixed

__all__ = ["DIGIT", "LETTER", "MARK", "POINT", "SEPARATOR", "SINGLE", "Table", "table"]

SEPARATOR, LETTER, DIGIT, MARK, SINGLE, POINT = range(6)
"""Between words; part of a word; of a number; an accent (dropped); a word by itself; in a number, else a separator."""
POINTS = ".,،٫"
LIMIT = 0x110000
#: Whose category and case need not be asked one by one: Han, Hangul syllables, private use, and planes without letters.
BLOCKS = [(0x3400, 0x4DC0), (0x4E00, 0xA000), (0xAC00, 0xD7A4), (0xD800, 0xF900), (0x20000, 0xE0000), (0xE0200, LIMIT)]
#: Scripts written without spaces between words: kana, Bopomofo, Han; Thai, Lao, Tibetan, Burmese, Khmer.
UNSPACED = [(0x3005, 0x3008), (0x3021, 0x302A), (0x3041, 0x3100), (0x3105, 0x3130), (0x31A0, 0x31C0), (0x31F0, 0x3200)]
UNSPACED += [(0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0xFF66, 0xFFA0), (0x1B000, 0x1B170)]
UNSPACED += [(0x20000, 0x323B0), (0x0E01, 0x0F00), (0x0F40, 0x0FBD), (0x1000, 0x10A0), (0x1780, 0x17D4)]

Table = tuple[npt.NDArray[np.uint8], U64]


@cache
def table(full: bool) -> Table:
    """(the class, the 64-bit value) of each of the 0x110000 code points.

    With ``full`` a character has the value of its lower case without diacritics, and every digit that of 0. The
    standard library's Unicode decides what is a letter: one of another version may know a few more.
    """
    kinds = np.full(LIMIT, LETTER, np.uint8)
    norm = np.arange(LIMIT, dtype=np.uint32)
    skip = iter(BLOCKS)
    start, stop = next(skip)
    code = 0
    while code < LIMIT:
        if code == start:
            code = stop
            start, stop = next(skip, (LIMIT, LIMIT))
            continue
        kinds[code], norm[code] = _normal(chr(code)) if full else (_kind(chr(code)), code)
        code += 1
    for first, last in UNSPACED:
        part = kinds[first:last]
        part[part == LETTER] = SINGLE
    return kinds, mixed(norm.astype(np.uint64) + np.uint64(0x632BE59BD9B4E019))


def _kind(char: str) -> int:
    return SEPARATOR if char.isspace() else LETTER


def _normal(char: str) -> tuple[int, int]:
    """The class, and the code point that stands for it: the first of its canonical decomposition's lower case."""
    if char in POINTS:
        return POINT, ord(char)
    category = unicodedata.category(char)
    if category == "Mn":
        return MARK, ord(char)
    if category == "Nd":
        return DIGIT, ord("0")
    if category[0] in "PSZ" or category == "Cc" or char.isspace():
        return SEPARATOR, ord(char)
    return LETTER, ord(unicodedata.normalize("NFD", char.lower())[0])
