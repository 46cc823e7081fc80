"""Characters that the two libraries do not both know: which documents hold one.

Patterns split text by Unicode's classes, and a character that is no letter before it is assigned ends a word. gigatoken
0.10 has the classes of Unicode 17, ``tokenizers`` 0.23 those of Unicode 16. And where text is normalised (NFC), the
order of marks that Unicode 10 and later brought, and what they compose, is unknown to ``tokenizers``. All code points
were compared, beside letters, digits and marks, for the patterns of GPT-2, LLaMA 3 and Qwen 2; nothing else differs. No
sample of a corpus would show what is so rare: the few documents that hold one go to the reference.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lmgraft.encoding.batches import TextBatch

__all__ = ["NEWER", "holding"]

#: First and last of each stretch: letters and numbers of Unicode 17; marks, and scripts with new compositions.
NEWER = (
    (0x07FD, 0x07FD), (0x088F, 0x088F), (0x0897, 0x089F), (0x08CA, 0x08D3), (0x09FE, 0x09FE), (0x0C3C, 0x0C3C),
    (0x0C5C, 0x0C5C), (0x0CDC, 0x0CDC), (0x0D3B, 0x0D3C), (0x0EBA, 0x0EBA), (0x1715, 0x1715), (0x1ABF, 0x1ADD),
    (0x1AE0, 0x1AEB), (0x1DF6, 0x1DFA), (0xA7CE, 0xA7CF), (0xA7D2, 0xA7D2), (0xA7D4, 0xA7D4), (0xA7F1, 0xA7F1),
    (0xA82C, 0xA82C), (0x105C0, 0x105FF), (0x10940, 0x10959), (0x10D24, 0x10D27), (0x10D69, 0x10D6D),
    (0x10EAB, 0x10EAC), (0x10EC5, 0x10EC7), (0x10EFA, 0x10EFB), (0x10EFD, 0x10EFF), (0x10F46, 0x10F50),
    (0x10F82, 0x10F85), (0x11070, 0x11070), (0x1133B, 0x1133B), (0x11380, 0x113FF), (0x1145E, 0x1145E),
    (0x11839, 0x1183A), (0x11900, 0x1195F), (0x119E0, 0x119E0), (0x11A34, 0x11A34), (0x11A47, 0x11A47),
    (0x11A99, 0x11A99), (0x11D42, 0x11D42), (0x11D44, 0x11D45), (0x11D97, 0x11D97), (0x11DB0, 0x11DDB),
    (0x11DE0, 0x11DE9), (0x11F41, 0x11F42), (0x16100, 0x1613F), (0x16D40, 0x16D7F), (0x16EA0, 0x16EB8),
    (0x16EBB, 0x16ED3), (0x16FF0, 0x16FF6), (0x187F8, 0x187FF), (0x18D09, 0x18D1E), (0x18D80, 0x18DF2),
    (0x1E08F, 0x1E08F), (0x1E130, 0x1E136), (0x1E2AE, 0x1E2AE), (0x1E2EC, 0x1E2EF), (0x1E4EC, 0x1E4EF),
    (0x1E5EE, 0x1E5EF), (0x1E6C0, 0x1E6DE), (0x1E6E0, 0x1E6F5), (0x1E6FE, 0x1E6FF), (0x2B73A, 0x2B73F),
    (0x2CEA2, 0x2CEAD), (0x323B0, 0x33479),
)  # fmt: skip

_FIRST, _LAST = np.array(NEWER, dtype=np.int64).T

#: First bytes of those of two and three bytes; from the last on, characters have four.
_LEADS, _FOUR = (0xDF, 0xE0, 0xE1, 0xEA), 0xF0

#: Bytes at a time that stay in the processor's cache.
_BLOCK = 1 << 18


def _beginnings() -> NDArray[np.bool_]:
    """(65536,) whether a character that is looked for begins with these two bytes."""
    found = np.zeros(1 << 16, dtype=np.bool_)
    for first, last in NEWER:
        for code in {*range(first, last, 1 << 6), last}:
            one, other = chr(code).encode()[:2]
            found[one << 8 | other] = True
    return found


_BEGINS = _beginnings()


def holding(batch: TextBatch) -> NDArray[np.int64]:
    """The numbers of the documents (or pieces) in ``batch`` that hold such a character, ascending."""
    begin = int(batch.offsets[0])
    data = batch.data[begin : batch.offsets[-1]]
    blocks = [_places(data[start : start + _BLOCK]) + start for start in range(0, len(data), _BLOCK)]
    places = np.concatenate(blocks) if blocks else np.zeros(0, np.int64)
    places = places[_BEGINS[data[places].astype(np.int64) << 8 | data[places + 1]]]
    codes = _codes(data, places)
    stretch = np.searchsorted(_FIRST, codes, side="right") - 1
    places = places[(stretch >= 0) & (codes <= _LAST[stretch])]
    found: NDArray[np.int64] = np.unique(np.searchsorted(batch.offsets, places + begin, side="right") - 1)
    return found


def _places(block: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Where a character may begin that is looked for."""
    if block.max() < _LEADS[0]:
        return np.zeros(0, np.int64)
    found = block >= _FOUR
    for lead in _LEADS:
        found |= block == lead
    return np.flatnonzero(found)


def _codes(data: NDArray[np.uint8], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """The code points of the characters of two bytes or more that begin at ``places``."""
    first, *others = (np.take(data, places + step, mode="clip").astype(np.int64) for step in range(4))
    second, third, fourth = (byte & 0x3F for byte in others)
    two, three = (first & 0x1F) << 6 | second, (first & 0x0F) << 12 | second << 6 | third
    four = (first & 0x07) << 18 | second << 12 | third << 6 | fourth
    return np.where(first >= 0xF0, four, np.where(first >= 0xE0, three, two))
