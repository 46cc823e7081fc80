"""Text of others on a terminal: what would act on it is spelt out."""

from __future__ import annotations

import re

__all__ = ["printable"]

#: Control characters but tab and line feed, marks that turn the direction of writing, other line ends, lone halves.
_ACTING = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """``text`` with characters that move a cursor, change colours, titles or directions as ``<U+001B>``.

    Names of files, messages of libraries and pieces of a vocabulary are written by strangers.
    """
    return _ACTING.sub(lambda found: f"<U+{ord(found[0]):04X}>", text)
