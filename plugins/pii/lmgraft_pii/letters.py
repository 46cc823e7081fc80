"""What continues a word, for the borders of all patterns.

``\\w`` would do for languages with spaces; in Chinese and Japanese a number stands right between characters.
"""

from __future__ import annotations

__all__ = ["WORD"]

#: Inside square brackets: digits, ``_`` and the letters of Latin, Greek and Cyrillic.
WORD = r"A-Za-z0-9_\u00c0-\u052f"
