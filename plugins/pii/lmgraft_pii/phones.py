"""Telephone numbers: international ones, those that a word such as ``phone`` announces, and national formats that are
hardly used for anything else.

Numbers are written in too many ways for one rule (ITU-T E.123 only recommends), and most runs of digits are none: what
stands alone and could as well be a price, a date, an ISBN or a serial number is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from lmgraft_pii.letters import WORD
from lmgraft_pii.phone_formats import NATIONAL, country_code

__all__ = ["Phones"]

#: A run in which a number may lie. Taken whole, so that no character is looked at twice.
_RUN = re.compile(r"[+(0-9][0-9 .()/\-]*")
#: Fewest digits of a number.
LEAST = 7
_SIGN = rf"(?<![{WORD}.,/\-+#=$€£¥%&@*])"
_REST = r"(?:[ .\-/()]{0,3}[0-9])"
_TO = rf"(?![{WORD}%€$£¥°]|[\-/.,:][0-9]|@)"
_INTERNATIONAL = re.compile(
    rf"(?<![{WORD}+.\-/])(?:\+ ?|00 ?(?=[1-9][0-9]{{0,2}}[ .\-/(]))\(?[1-9]{_REST}{{7,14}}{_TO}"
)
_PLAIN = re.compile(rf"{_SIGN}\(?[0-9]{_REST}{{6,12}}{_TO}")
_STRONG = (
    r"telephone|phones?|tel|tél|téléphone|telefon|telefone|teléfono|telefono|fax|telefax|mobile|mobil|cell|cellphone|"
    r"handy|móvil|portable|whatsapp|hotline|helpline|ph|mob|тел|телефон|факс|моб|电话|電話|手机|手機|传真|联系方式"
)
_WEAK = r"call|dial|sms|text|ring|toll[- ]free"
_ANNOUNCED = re.compile(
    rf"(?<![{WORD}])(?:(?P<strong>{_STRONG})|{_WEAK})"
    r"(?:[ .]{0,2}\b(?:number|no|nr|num|us|me|him|her|them|to|at|on|is|now|today|mobile|phone|номер))*(?:号码|号)?"
    r"[\s.:：)=*_#~\-]{0,4}\Z",
    re.IGNORECASE,
)
#: Words before a number that is of something else.
_OTHER = re.compile(
    r"\b(?:isbn(?:-1[03])?|issn|doi|pmid|order|invoice|ticket|case|ref|reference|part|sku|serial|model|id|item|product|"
    r"tracking|account|acct|patent|lot|batch|version|catalog(?:ue)?|p\.?o\.?)\b[\s#:.]{0,3}(?:(?:no|nr|number|id)\b)?[\s#:.]{0,3}\Z",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"(?:19|20)[0-9]{2}([\-/. ])[01]?[0-9]\1[0-3]?[0-9]|[0-3]?[0-9]([\-/. ])[0-3]?[0-9]\2(?:19|20)?[0-9]{2}"
    r"|(?:19|20)[0-9]{2} ?[\-/] ?(?:19|20)[0-9]{2}"
)
#: Characters before a number that are looked at.
BEFORE = 40


class Phones:
    """Telephone numbers of a text.

    Counts as one: ``+`` or ``00`` with a country code and 8 to 15 digits in all (E.164; North American ones must have
    an area code and an exchange that can exist); 7 to 13 digits after a word such as ``phone`` or ``fax`` in some ten
    languages; the national formats of ``regions``. Does not: dates, what follows a word such as ``ISBN`` or ``order``,
    and plain runs of digits that nothing announces, Chinese mobile numbers excepted.
    """

    def __init__(self, regions: Iterable[str]) -> None:
        patterns = [pattern for region in sorted(set(regions)) for pattern in NATIONAL[region]]
        self._national = re.compile(f"{_SIGN}(?:{'|'.join(patterns)}){_TO}") if patterns else None

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        """Spans, ascending and disjoint."""
        for run in _RUN.finditer(text):
            start, end = run.span()
            if end - start >= LEAST:
                yield from self._within(text, start, end)

    def _within(self, text: str, start: int, end: int) -> list[tuple[int, int]]:
        """Each rule goes over the run once; where two numbers meet, the first stays, of two at one place the longer.
        A pattern sees two characters beyond the run: what must not follow."""
        seen = min(len(text), end + 2)
        found = [*_international(text, start, seen), *self._own(text, start, seen), *_announced(text, start, seen)]
        disjoint: list[tuple[int, int]] = []
        for span in sorted(found, key=lambda span: (span[0], -span[1])):
            if not disjoint or span[0] >= disjoint[-1][1]:
                disjoint.append(span)
        return disjoint

    def _own(self, text: str, start: int, seen: int) -> Iterator[tuple[int, int]]:
        for match in self._national.finditer(text, start, seen) if self._national else ():
            before = match.start()
            if not _DATE.fullmatch(match.group()) and not _OTHER.search(text, max(0, before - BEFORE), before):
                yield match.span()


def _international(text: str, start: int, seen: int) -> Iterator[tuple[int, int]]:
    for match in _INTERNATIONAL.finditer(text, start, seen):
        end = _dialled(match)
        if end:
            yield match.start(), end


def _dialled(match: re.Match[str]) -> int:
    """Where the number ends, 0 where it cannot be dialled."""
    written = match.group()
    digits = "".join(filter(str.isdecimal, written.replace("(0)", "")))
    digits = digits[2:] if written.startswith("00") else digits
    code = country_code(digits)
    if written.count("(") != written.count(")") or not code:
        return 0
    if code == "1":
        return _eleven(match) if re.match(r"1[2-9][0-9]{2}[2-9][0-9]{6}", digits) else 0
    parted = len(digits) < len(written.lstrip("+0 "))
    return match.end() if (8 if parted else 10) <= len(digits) <= 15 else 0


def _eleven(match: re.Match[str]) -> int:
    """Where the eleventh digit after the sign stands: North American numbers have no more."""
    sign = 2 if match.group().startswith("00") else 0
    places = [place for place, letter in enumerate(match.group()) if letter.isdecimal()][sign:]
    whole = len(places) == 11 or not match.group()[places[10] + 1].isdecimal()
    return match.start() + places[10] + 1 if whole else 0


def _announced(text: str, start: int, seen: int) -> Iterator[tuple[int, int]]:
    said = _ANNOUNCED.search(text, max(0, start - BEFORE), start)
    match = _PLAIN.match(text, start, seen) if said else None
    if not said or not match or _DATE.fullmatch(match.group()) or match.group().count("(") != match.group().count(")"):
        return
    if said["strong"] or not match.group().isdecimal() or len(match.group()) >= 10:
        yield match.span()
