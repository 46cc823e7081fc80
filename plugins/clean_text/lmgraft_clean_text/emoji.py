"""Filter ``emoji``: emoji to their names, away, or only counted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import KEEP, Verdict

from lmgraft_clean_text.plugin import EmojiConfig, EmojiTo

__all__ = ["Emoji"]

#: The library's numbers for components, and for what a keyboard offers: alone, both are shown as pictures.
COMPONENT, FULLY_QUALIFIED = 1, 2
PICTURE, TEXT = "\ufe0f", "\ufe0e"
TONES, REGIONS = "\U0001f3fb-\U0001f3ff", "\U0001f1e6-\U0001f1ff"


class Emoji:
    """Row-wise, of documents with ``text``; others stay as they are. Nothing is dropped. Count ``emoji``.

    An emoji is a sequence as UTS 51 defines it (ED-15a to ED-17): a flag, a keycap, or characters with their skin
    tones, selectors and tags, joined by ZERO WIDTH JOINER; it is taken whole. A sequence that the library ``emoji`` has
    no name for is named by its longest parts. Characters that are plain text unless a selector follows are let be
    (``text_style``), and so is what U+FE0E makes text. Emoticons such as ``:-)`` are none.

    With ``to: name`` the reason of a rewrite is ``named``, with ``to: remove`` it is ``removed``. Blanks around what
    was removed stay; ``unicode`` with ``spaces: true`` after it joins them.
    """

    def __init__(self, config: EmojiConfig) -> None:
        self.config = config
        self._any, self._sequence, self._names = _tables(config.language, config.text_style)
        self._longest = max(map(len, self._names))

    def judge(self, batch: Sequence[Document]) -> list[Verdict]:
        return [
            KEEP if document.text is None or document.text.isascii() else self._judge(document.text)
            for document in batch
        ]

    def _judge(self, text: str) -> Verdict:
        if not self._any.search(text):
            return KEEP
        found = 0

        def replaced(match: re.Match[str]) -> str:
            nonlocal found
            parts = self._parts(match[0])
            found += sum(known for _, known in parts)
            return "".join(part for part, _ in parts)

        clean, counts = self._sequence.sub(replaced, text), {"emoji": found}
        if not found:
            return KEEP
        if self.config.to is EmojiTo.keep:
            return Verdict(counts=counts)
        return Verdict(text=clean, reason="named" if self.config.to is EmojiTo.name else "removed", counts=counts)

    def _parts(self, sequence: str) -> list[tuple[str, bool]]:
        """What is written for a sequence, and which of it stood for an emoji. Selectors and joiners go with them."""
        whole = self._names.get(sequence) or self._names.get(sequence.replace(PICTURE, ""))
        if whole is not None:
            return [(self._written(whole), True)]
        parts, at = [], 0
        while at < len(sequence):
            most = min(len(sequence), at + self._longest)
            end = next((n for n in range(most, at, -1) if sequence[at:n] in self._names), at)
            if end > at:
                parts.append((self._written(self._names[sequence[at:end]]), True))
            elif not parts or sequence[at] not in "\u200d\ufe0f":
                parts.append((sequence[at], False))
            at = max(end, at + 1)
        return parts

    def _written(self, name: str) -> str:
        before, after = self.config.delimiters
        return f"{before}{name}{after}" if self.config.to is EmojiTo.name else ""


@lru_cache(maxsize=8)
def _tables(language: str, text_style: bool) -> tuple[re.Pattern[str], re.Pattern[str], dict[str, str]]:
    """(where to look at all, a whole sequence, sequence -> name without delimiters)"""
    import emoji

    emoji.config.load_language(language)
    known: dict[str, dict[str, Any]] = emoji.EMOJI_DATA
    names = {sequence: (row.get(language) or row["en"]).strip(":") for sequence, row in known.items()}
    # Fully qualified names stand for the same sequence without its selectors, where that has none in this language.
    names |= {
        s: names[q] for q in known if PICTURE in q and (s := q.replace(PICTURE, "")) in names and language in known[q]
    }
    single = {s for s in known if len(s) == 1 and ord(s) > 127 and not re.match(f"[{REGIONS}]", s)}
    # Skin tones and hair are components, and pictures alone. Beyond the basic plane nobody writes them as text.
    pictures = {s for s in single if known[s]["status"] in (COMPONENT, FULLY_QUALIFIED) or ord(s) > 0xFFFF}
    shown, every = (_inside(pictures | single if text_style else pictures), _inside(single))
    # Ranges beyond the basic plane are tried one by one, for every character: one wide range goes first.
    near = _inside({s for s in single if ord(s) <= 0xFFFF}) + "\U0001f000-\U0001fbff"
    # An element of a joined sequence; tags follow a flag's base.
    element = f"[{every}](?:{PICTURE}|[{TONES}])?(?:[\U000e0020-\U000e007e]+\U000e007f)?"
    # The first one is shown as a picture by itself, or is made one by what follows.
    first = f"(?:[{shown}](?!{TEXT})|[{every}](?=[{PICTURE}{TONES}]|\u200d[{every}]))"
    sequence = f"[{REGIONS}]{{2}}|[0-9#*]{PICTURE}?\u20e3|(?={first}){element}(?:\u200d{element})*"
    return re.compile(f"[{near}\u20e3]"), re.compile(f"(?=[0-9#*{near}])(?:{sequence})"), names


def _inside(characters: set[str]) -> str:
    """Characters as ranges of a class."""
    ranges: list[list[int]] = []
    for code in sorted(map(ord, characters)):
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)
