"""Text made visible: spaces, line ends, control characters and single bytes of a character as signs."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

__all__ = ["LINE_END", "visible"]

LINE_END = "↵"

_SIGNS = {" ": "·", "\n": LINE_END, "\t": "→", "\r": "␍"}
#: Signs stand for something else here, so the characters themselves are spelt out.
_TAKEN = frozenset("·↵→␍")
#: Control and format characters, lone halves, unassigned and private ones, spaces and line ends of other kinds.
_UNSEEN = ("C", "Z")


def visible(data: bytes) -> str:
    """``data`` as one line of text in which everything can be seen and nothing acts on a terminal or a page.

    A byte that is no whole character is ``<0xE4>``; a character that would be unseen ``<U+200B>``; a combining mark at
    the beginning stands on a dotted circle.
    """
    text = data.decode("utf-8", "surrogateescape")
    shown = "".join(map(_sign, text))
    return f"◌{shown}" if text and unicodedata.category(text[0]).startswith("M") else shown


@lru_cache(maxsize=4096)
def _sign(character: str) -> str:
    if character in _SIGNS:
        return _SIGNS[character]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8, as surrogateescape holds it
        return f"<0x{code - 0xDC00:02X}>"
    if character in _TAKEN or unicodedata.category(character).startswith(_UNSEEN):
        return f"<U+{code:04X}>"
    return character
