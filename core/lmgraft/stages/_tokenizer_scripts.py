"""In which script a text is written, where nothing says in which language."""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import lru_cache

__all__ = ["script"]

#: First word of a letter's name in Unicode -> its script. Others stand for themselves.
_SCRIPTS = {"CJK": "Han", "HIRAGANA": "Kana", "KATAKANA": "Kana", "KATAKANA-HIRAGANA": "Kana", "MICRO": "Greek"}
_WIDTHS = ("FULLWIDTH", "HALFWIDTH", "MATHEMATICAL", "DOUBLE-STRUCK", "SCRIPT", "BLACK-LETTER")
_OTHER = "other"


def script(text: str) -> str:
    """The script of most letters of ``text``: ``Latin``, ``Han``, ``Cyrillic``, ...; ``no letters`` where it has none.

    Told by the names of the characters in Unicode. Japanese is Han or Kana, whichever has more letters.
    """
    found: Counter[str] = Counter()
    for character, number in Counter(text).items():
        if character.isalpha():
            found[_of(character)] += number
    # Of equal counts the first by name, so that the order of the text decides nothing.
    return min(found, key=lambda name: (-found[name], name)) if found else "no letters"


@lru_cache(maxsize=1 << 16)
def _of(character: str) -> str:
    words = unicodedata.name(character, "").split()
    while words and words[0] in _WIDTHS:
        words = words[1:] if words[0] in ("FULLWIDTH", "HALFWIDTH") else ["LATIN"]
    if not words or words[0] in ("MODIFIER", "FEMININE", "MASCULINE"):
        return _OTHER
    return _SCRIPTS.get(words[0], words[0].capitalize())
