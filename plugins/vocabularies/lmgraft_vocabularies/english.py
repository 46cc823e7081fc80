"""What counts as English where new pieces are kept out of it: ASCII, and the marks of typeset text.

Quotation marks, dashes and dots (U+2010 to U+2044) are three bytes that begin with E2 80, which byte-level pieces may
hold the first one or two of.
"""

from __future__ import annotations

__all__ = ["is_english", "is_english_bytes"]

_FIRST, _LAST = "\u2010", "\u2044"
_BEGINNINGS = (b"\xe2\x80", b"\xe2\x81", b"\xe2")
_SECOND = b"\x80\x81"
_CONTINUING = bytes(range(0x80, 0xC0))


def is_english(text: str) -> bool:
    """Whether English could spell the whole of ``text``."""
    return text.isascii() or all(letter < "\x80" or _FIRST <= letter <= _LAST for letter in text)


def is_english_bytes(piece: bytes) -> bool:
    """The same for a byte-level piece, which may begin or end within a mark."""
    if piece.isascii():
        return True
    whole = piece.lstrip(_CONTINUING)
    if not whole:  # the end of some character: of a mark, if it is these two bytes of three
        return len(piece) == 2 and piece[0] in _SECOND
    for beginning in _BEGINNINGS:
        if whole.endswith(beginning):
            whole = whole[: -len(beginning)]
            break
    try:
        return is_english(whole.decode())
    except UnicodeDecodeError:
        return False
