"""Numbers of payment cards and bank accounts: both carry check digits, so little else passes for one."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lmgraft_pii.letters import WORD

__all__ = ["cards", "ibans"]

_CARD = re.compile(rf"(?<![{WORD}.\-+/])[2-6][0-9](?:[ \-]?[0-9]){{11,17}}(?![{WORD}%]|[.,\-/][0-9])")
#: Issuers: Visa; Mastercard; American Express; Discover; Diners Club; JCB; UnionPay (ISO/IEC 7812, public ranges).
_ISSUER = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})|(?:5[1-5][0-9]{2}|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}|"
    r"3[47][0-9]{13}|6(?:011|5[0-9]{2}|4[4-9][0-9])[0-9]{12}|3(?:0[0-5]|[689][0-9])[0-9]{11}|35(?:2[89]|[3-8][0-9])[0-9]{12}|"
    r"62[0-9]{14,17}"
)
#: As printed on cards: in fours, or 4-6-5 and 4-6-4.
_SHAPES = re.compile(r"[0-9]+|(?:[0-9]{4}([ \-]))(?:[0-9]{4}\1){2}[0-9]{1,7}|[0-9]{4}([ \-])[0-9]{6}\2[0-9]{4,5}")
_IBAN = re.compile(rf"(?<![{WORD}\-])[A-Z]{{2}}[0-9]{{2}}(?: ?[A-Z0-9]){{11,30}}")
#: Characters of an IBAN by country (SWIFT's IBAN registry).
_REGISTRY = """
    AD=24 AE=23 AL=28 AT=20 AZ=28 BA=20 BE=16 BG=22 BH=22 BR=29 BY=28 CH=21 CR=22 CY=28 CZ=24 DE=22 DK=18 DO=28
    EE=20 EG=29 ES=24 FI=18 FO=18 FR=27 GB=22 GE=22 GI=23 GL=18 GR=27 GT=28 HR=21 HU=28 IE=22 IL=23 IQ=23 IS=26
    IT=27 JO=30 KW=30 KZ=20 LB=28 LC=32 LI=21 LT=20 LU=20 LV=21 LY=25 MC=27 MD=24 ME=22 MK=19 MR=27 MT=31 MU=30
    NL=18 NO=15 PK=24 PL=28 PS=29 PT=25 QA=29 RO=24 RS=22 SA=24 SC=31 SE=24 SI=19 SK=24 SM=27 TN=24 TR=26 UA=29
    VA=22 VG=24 XK=20
"""
_LENGTHS = {pair[:2]: int(pair[3:]) for pair in _REGISTRY.split()}


def cards(text: str) -> Iterator[tuple[int, int]]:
    """Spans of card numbers: of a known issuer, in one piece or as printed on cards, the check digit right (Luhn)."""
    for match in _CARD.finditer(text):
        digits = match.group().replace(" ", "").replace("-", "")
        if _SHAPES.fullmatch(match.group()) and _ISSUER.fullmatch(digits) and luhn(digits) and len(set(digits)) > 1:
            yield match.span()


def ibans(text: str) -> Iterator[tuple[int, int]]:
    """Spans of IBANs: of a country's length, with right check digits (ISO 13616, modulo 97)."""
    for match in _IBAN.finditer(text):
        length = _LENGTHS.get(match.group()[:2], 0)
        end = _end(text, match.start(), match.end(), length)
        if end and checked(text[match.start() : end].replace(" ", "")):
            yield match.start(), end


def luhn(digits: str) -> bool:
    """Whether the last digit checks the others (ISO/IEC 7812-1, annex B)."""
    doubled = [int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(reversed(digits))]
    return sum(number - 9 if number > 9 else number for number in doubled) % 10 == 0


def checked(iban: str) -> bool:
    """Whether the digits after the country check the rest (ISO 7064, MOD 97-10)."""
    return int("".join(str(int(letter, 36)) for letter in iban[4:] + iban[:4])) % 97 == 1


def _end(text: str, start: int, end: int, length: int) -> int:
    """Where ``length`` characters, white space apart, end: capital letters of the next word may follow."""
    if not length:
        return 0
    seen = 0
    for place in range(start, end):
        seen += text[place] != " "
        if seen == length:
            whole = place + 1 == len(text) or not re.match(rf"[{WORD}]", text[place + 1])
            return place + 1 if whole else 0
    return 0
