"""``unicode``, ``emoji`` and ``spelling`` keep the contract of filters."""

from __future__ import annotations

from lmgraft_clean_text.conformance import (
    TestEmoji,
    TestEmojiRemoved,
    TestSpelling,
    TestSpellingCorrects,
    TestUnicode,
    TestUnicodeSpaces,
)

__all__ = ["TestEmoji", "TestEmojiRemoved", "TestSpelling", "TestSpellingCorrects", "TestUnicode", "TestUnicodeSpaces"]
