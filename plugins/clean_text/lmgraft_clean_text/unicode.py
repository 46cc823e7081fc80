"""Filter ``unicode``: mojibake, line ends, control and invisible characters, normal forms and blanks."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Literal, cast

from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import KEEP, Verdict

from lmgraft_clean_text.invisible import BIDI, INVISIBLE, TAGS
from lmgraft_clean_text.plugin import Form, UnicodeConfig

__all__ = ["Unicode"]

#: UAX 14's mandatory breaks: CR LF, CR, VT, FF, NEL, LS, PS.
LINE_ENDS = re.compile("\r\n?|[\v\f\x85\u2028\u2029]")
#: What ``str.translate`` finds faster than ``re``: ASCII that is a line's end or a control.
ASCII_LEFT = dict.fromkeys((*range(9), *range(11, 32), 127))
CONTROLS = re.compile(
    "[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufff9-\ufffb\ufffe\uffff"
    + "".join(chr(plane << 16 | 0xFFFE) + chr(plane << 16 | 0xFFFF) for plane in range(1, 17))
    + "]"
)
#: All that the steps on single characters may take out, widely: one class is found faster than many.
SUSPECT = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufdd0-\ufdef\ufeff\uffa0\ufff9-\ufffb\ufffe\uffff\U0001d173-\U0001d17a\U0001fffe-\U0010ffff]"
)
BLANKS = "[ \\t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]"
MANY_BLANKS = re.compile(rf"[\t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]{BLANKS}*|  +{BLANKS}*| {BLANKS}+")
LINE_BLANKS = re.compile(" ?\n ?")
EMPTY_LINES = re.compile("\n{3,}")


class Unicode:
    """Row-wise, of documents with ``text``; others stay as they are. Nothing is dropped.

    Steps, in this order; each has its setting, and its count in the funnel:

    - ``fix``: lines that were decoded in a wrong encoding are decoded again, by ftfy's ``fix_encoding`` (Speer 2019,
      doi:10.5281/zenodo.2591652) with its steps for lost bytes. What else ftfy can do is not done: HTML entities,
      quotation marks, ligatures, widths, terminal escapes stay. Count ``mojibake``: lines.
    - ``lines``: mandatory breaks of UAX 14 become line feeds. Count ``line_ends``.
    - ``controls``: C0, DEL and C1 but tab and line feed, noncharacters, and the marks of interlinear annotation. A
      carriage return goes here where ``lines`` is off and it stands for no line's end. Count ``controls``.
    - ``invisible`` and ``bidi``: see :mod:`lmgraft_clean_text.invisible`. Counts ``invisible`` and ``bidi``.
    - ``form``: the normal form of UAX 15. Count ``normalised``: documents.
    - ``spaces``: runs of blanks, ends of lines, empty lines. Count ``spaces``: documents.

    Lone surrogates are core's business; private characters, variation selectors and U+FFFD stay. Nothing is guessed of
    confusable letters of other scripts (UTS 39).
    """

    def __init__(self, config: UnicodeConfig) -> None:
        self.config = config
        self._repaired: Callable[[str], tuple[str, int]] | None = None
        if config.fix:
            # ftfy is asked for only where it is used.
            from lmgraft_clean_text.mojibake import repaired

            self._repaired = repaired

    def judge(self, batch: Sequence[Document]) -> list[Verdict]:
        return [KEEP if document.text is None else self._judge(document.text) for document in batch]

    def _judge(self, text: str) -> Verdict:
        counts: dict[str, int] = {}
        if text.isascii():
            # Most English text ends here: nothing to normalise, no encoding to repair.
            clean = text if len(text.translate(ASCII_LEFT)) == len(text) else self._controls(text, counts)
        else:
            clean = self._beyond_ascii(text, counts)
        if self.config.spaces:
            clean = _noted(_blanks(clean), clean, "spaces", counts)
        if clean == text:
            return KEEP
        return Verdict(text=clean, reason=next(iter(counts)), counts=counts)

    def _beyond_ascii(self, text: str, counts: dict[str, int]) -> str:
        if self._repaired is not None:
            text, lines = self._repaired(text)
            _count(counts, "mojibake", lines)
        text = self._controls(text, counts) if SUSPECT.search(text) else text
        return self._form(self._unseen(text, counts) if SUSPECT.search(text) else text, counts)

    def _unseen(self, text: str, counts: dict[str, int]) -> str:
        config = self.config
        if config.invisible:
            text = _without_tags(text, counts)  # first: a joiner may follow the end of a flag, and no stray tag
            text = _without(INVISIBLE, text, "invisible", counts)
        if config.bidi:
            text = _without(BIDI, text, "bidi", counts)
        return text

    def _form(self, text: str, counts: dict[str, int]) -> str:
        config = self.config
        form = config.form.value
        if config.form is Form.none or unicodedata.is_normalized(cast("Literal['NFC', 'NFKC']", form), text):
            return text
        return _noted(unicodedata.normalize(cast("Literal['NFC', 'NFKC']", form), text), text, "normalised", counts)

    def _controls(self, text: str, counts: dict[str, int]) -> str:
        if self.config.lines:
            text, number = LINE_ENDS.subn("\n", text)
            _count(counts, "line_ends", number)
        elif self.config.controls and "\r" in text:
            text = _without(re.compile("\r(?!\n)"), text, "controls", counts)
        return _without(CONTROLS, text, "controls", counts) if self.config.controls else text


def _without(pattern: re.Pattern[str], text: str, name: str, counts: dict[str, int]) -> str:
    text, number = pattern.subn("", text)
    _count(counts, name, number)
    return text


def _without_tags(text: str, counts: dict[str, int]) -> str:
    """Tag characters but those of a flag, whose emoji they follow."""
    clean = TAGS.sub(lambda match: match[1] or "", text)
    _count(counts, "invisible", len(text) - len(clean))
    return clean


def _blanks(text: str) -> str:
    text = LINE_BLANKS.sub("\n", MANY_BLANKS.sub(" ", text))
    return EMPTY_LINES.sub("\n\n", text).strip(" \n")


def _noted(new: str, old: str, name: str, counts: dict[str, int]) -> str:
    _count(counts, name, int(new != old))
    return new


def _count(counts: dict[str, int], name: str, number: int) -> None:
    if number:
        counts[name] = counts.get(name, 0) + number
