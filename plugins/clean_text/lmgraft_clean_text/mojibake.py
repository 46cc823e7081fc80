"""Mojibake: text that was written in UTF-8 and read in another encoding, undone by ftfy, at less cost.

ftfy looks at every line for combinations of letters that nobody writes, which takes 0.2 us a character. A line can only
be mojibake where a character that some single-byte encoding writes as the first byte of a UTF-8 sequence stands before
one that it writes as a later byte, or where a C1 control stands: that is looked for first, and is rare.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ftfy import TextFixerConfig, fix_encoding
from ftfy.badness import is_bad
from ftfy.chardata import CHARMAP_ENCODINGS

__all__ = ["repaired"]

# Every option is said: a later ftfy with other defaults must not change what comes out.
OPTIONS: dict[str, Any] = {
    "unescape_html": False,
    "remove_terminal_escapes": False,
    "fix_encoding": True,
    "restore_byte_a0": True,
    "replace_lossy_sequences": True,
    "decode_inconsistent_utf8": True,
    "fix_c1_controls": True,
    "fix_latin_ligatures": False,
    "fix_character_width": False,
    "uncurl_quotes": False,
    "fix_line_breaks": False,
    "fix_surrogates": False,
    "remove_control_chars": False,
    "normalization": None,
    "explain": False,
}
CONFIG = TextFixerConfig(**OPTIONS)


def repaired(text: str) -> tuple[str, int]:
    """The text as it was meant, and how many of its lines were not that."""
    if not POSSIBLE.search(text):
        return text, 0
    lines = text.split("\n")
    fixed = [fix_encoding(line, CONFIG) if POSSIBLE.search(line) and is_bad(line) else line for line in lines]
    return "\n".join(fixed), sum(a != b for a, b in zip(lines, fixed, strict=True))


def _possible() -> re.Pattern[str]:
    leads, follows, laters, shorts = "", [], "", ""
    for encoding in CHARMAP_ENCODINGS:
        first, later = _characters(range(0xC0, 0xF5), encoding), _characters(range(0x80, 0xC0), encoding)
        # As ftfy allows for them: bytes that are lost, and no-break spaces that became spaces ("– " is no mojibake).
        later += "\x1a\ufffd" if encoding.startswith("sloppy") else ""
        leads, laters = leads + first, laters + later
        spaced = "" if encoding == "macroman" else "[ ?]?"
        follows.append(f"(?<=[{first}]){spaced}[{later}]")
        if spaced:
            short = _characters([0xC2, 0xC3, 0xC5, 0xCE, 0xD0, 0xD9], encoding)
            follows.append(f"(?<=[{short}])[ ?]")
            shorts += short
    # A pattern that begins with one class is searched for at C speed. Most letters that may come first are followed by
    # what never follows in any encoding; which encoding it is of is asked of the others only.
    any_encoding = f"(?:(?=[ ?]?[{laters}])|(?<=[{shorts}])(?=[ ?]))"
    return re.compile(f"[\x80-\x9f{leads}](?:(?<=[\x80-\x9f])|{any_encoding}(?:{'|'.join(follows)}))")


def _characters(codes: Iterable[int], encoding: str) -> str:
    """What bytes are in an encoding, as the inside of a character class."""
    return re.escape(bytes(codes).decode(encoding, "ignore"))


POSSIBLE = _possible()
