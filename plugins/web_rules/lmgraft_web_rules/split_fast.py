"""Words by a few rules of our own, a run of non-space characters at a time.

Punctuation comes off both ends a mark at a time, ``'s`` and ``n't`` become words, a full stop stays with an
abbreviation, and words are parted at hyphens, slashes, commas and dots between letters. Addresses of the web and of
e-mail stay whole. What remains to choose (``10km``: one word or two) follows the conventions that English treebanks
have made common, so that rules with limits made for such splitters mean here what they mean there.
"""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["splitter"]

_OPEN = "\"'`´‘’‚“”„«»「」『』（）〔〕【】《》〈〉([{<)]}>,:;!?¿؟¡_#*&。？！，、；：～·…،।۔؛٪"
_CURRENCY = "$£€¥฿₩₪₫₹₺₽₿"
#: Marks that come off the front; dots only where there are several.
_FRONT = re.compile(rf"\.\.+|\+(?![0-9])|[§%=—–{re.escape(_OPEN + _CURRENCY)}]")
#: Signs such as arrows, bullets and pictures; the guards keep letters and plain punctuation out.
_ICON = (
    "[\u00a6\u00a9\u00ae\u00b0\u2190-\u21ff\u2300-\u23ff\u2460-\u27bf\u2800-\u28ff\u2b00-\u2bff"
    "\U0001f000-\U0001faff\ufffd]"
)
_BACK = frozenset(_OPEN + "—–")
_UNIT = re.compile(
    r"(?<=[0-9])(?:km/h|kmh|mph|m/s|hPa|Pa|mbar|mb|MB|kb|KB|gb|GB|tb|TB|km[²³]?|dm[²³]?|cm[²³]?|mm[²³]?|m[²³]?|ha|µm"
    r"|nm|yd|in|ft|kg|mg|µg|g|lb|oz|t|T|G|M|K|%)\Z"
)
_CLITIC = re.compile(r"(?:n['’]t|['’](?:ll|ve|re|d|m|s))\Z", re.IGNORECASE)
_PARTED = re.compile(
    rf"\.\.+|…|{_ICON}|(?<=[0-9])[+\-*^](?=[0-9-])|(?<=[^\W\d_A-Z])\.(?=[A-Z])|(?<=[^\W\d_]),(?=[^\W\d_])"
    r"|(?<=[^\W_])(?:—+|--+|[-–~:<>=/])(?=[^\W\d_])"
)
_URL = re.compile(
    r"(?:(?:https?|ftp|file)://|www\.)\S+|\S+@[\w-]+\.[\w.-]+|(?:[\w-]+\.)+(?:com|org|net|edu|gov|mil|int|info|biz|io"
    r"|co|uk|us|de|fr|jp|au|ca|eu|ru|ch|nl|it|es|se|no|fi|be|at|dk|pl|cz|br|in|cn|tv|me|ly)(?:[/?#:]\S*)?",
    re.IGNORECASE,
)
_SHORTENED = """mr. mrs. ms. dr. st. jr. sr. vs. v.s. prof. gen. rep. sen. gov. inc. ltd. co. corp. bros. mt. adm.
messrs. ph.d. rev. a.m. p.m. e.g. i.e. jan. feb. mar. apr. jun. jul. aug. sep. sept. oct. nov. dec."""
_ABBREVIATIONS = frozenset(_SHORTENED.split())
_HOURS = re.compile(r"(1[0-2]|[1-9])([ap]\.?m\.?)\Z", re.IGNORECASE)
_WHOLE = {
    "cannot": ["can", "not"],
    "gonna": ["gon", "na"],
    "gotta": ["got", "ta"],
}


def splitter() -> Callable[[str], list[str]]:
    """The function that cuts a run of non-space characters into words."""
    return _split


def _split(piece: str) -> list[str]:
    if piece.isalpha():
        return _letters(piece)
    word, last = piece[:-1], piece[-1]
    if word.isalpha() and (
        last in _BACK or (last == "." and word.islower() and piece not in _ABBREVIATIONS and word[1:])
    ):
        return [*_letters(word), last]
    front: list[str] = []
    back: list[str] = []
    start, end = 0, len(piece)
    while start < end and not _complete(piece, start, end):
        taken = _front(piece, start, end)
        if taken:
            front.append(piece[start : start + taken])
            start += taken
            if start == end or _complete(piece, start, end):
                break
        less = _back(piece, start, end)
        if less:
            back.append(piece[end - less : end])
            end -= less
        if not taken and not less:
            break
    if start < end:
        front += _inside(piece[start:end])
    return front + back[::-1]


def _letters(word: str) -> list[str]:
    parts = _WHOLE.get(word.lower()) if len(word) < 7 else None
    return [word] if parts is None else [word[: len(parts[0])], word[len(parts[0]) :]]


def _complete(piece: str, start: int, end: int) -> bool:
    """Whether a dot at the end belongs to what stands before it."""
    if piece[end - 1] != "." or end - start > 7:
        return False
    return (end - start == 2 and piece[start].isalpha()) or piece[start:end].lower() in _ABBREVIATIONS


def _front(piece: str, start: int, end: int) -> int:
    """How many characters come off the front."""
    if piece[start].isalnum() or (piece[start] == "'" and _CLITIC.fullmatch(piece, start, end)):
        return 0
    found = _FRONT.match(piece, start, end)
    return found.end() - start if found else 0


def _back(piece: str, start: int, end: int) -> int:
    """How many characters come off the back."""
    last = piece[end - 1]
    if last in _BACK:
        return 1
    if last == ".":
        return _dots(piece, start, end)
    if last in "sS" and piece[end - 2 : end - 1] in ("'", "’"):
        return 2 if end - start > 2 else 0
    before = piece[end - 2] if end - start > 1 else ""
    if before.isdigit() and (last == "+" or last in _CURRENCY):
        return 1
    found = _UNIT.search(piece, max(start, end - 4), end) if not last.isdigit() else None
    return end - found.start() if found and found.start() > start else 0


def _dots(piece: str, start: int, end: int) -> int:
    """Several dots are one mark; one comes off unless it follows a single capital letter (``J.``, ``U.S.``)."""
    first = end
    while first > start and piece[first - 1] == ".":
        first -= 1
    if end - first > 1 or first == start:
        return end - first
    before = piece[first - 1]
    if before.isupper():
        return 1 if first - start > 1 and piece[first - 2].isupper() else 0
    return 1 if before.isalnum() or before in "%²+-" or before in _BACK else 0


def _inside(word: str) -> list[str]:
    if word.isalpha():
        return _letters(word)
    if word.isalnum() and not word[0].isdigit():
        return [word]
    if _URL.fullmatch(word):
        return [word]
    hours = _HOURS.fullmatch(word)
    if hours:
        return [hours[1], hours[2]]
    clitics: list[str] = []
    while len(clitics) < 2 and (found := _CLITIC.search(word)) and found.start():
        clitics.insert(0, found[0])
        word = word[: found.start()]
    words, at = [], 0
    for mark in _PARTED.finditer(word):
        if mark.start() > at:
            words.append(word[at : mark.start()])
        words.append(mark[0])
        at = mark.end()
    if at < len(word):
        words.append(word[at:])
    return words + clitics
