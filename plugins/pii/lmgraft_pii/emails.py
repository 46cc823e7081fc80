"""E-mail addresses: found from each ``@`` outwards, over the lengths that RFC 5321 allows, so in linear time."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lmgraft_pii.letters import WORD

__all__ = ["emails"]

#: Most characters before the ``@`` (RFC 5321, section 4.5.3.1).
LOCAL = 64
# Read backwards from the @: letters and digits of Europe, and what people use of the rest.
_LOCAL = re.compile(rf"[{WORD}.%+'\-]+")
_LABEL = rf"[{WORD}](?:[{WORD}\-]{{0,61}}[{WORD}])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}\.){{1,8}}([A-Za-z]{{2,24}}|xn--[A-Za-z0-9\-]{{2,59}})(?![{WORD}\-]*@|[{WORD}])")
#: Userinfo of a URL, up to the @: no mailbox.
_USERINFO = re.compile(r"//[^\s/@]*\Z")
#: Generic top-level domains in wide use, beside those of countries, which have two letters. Without such a list
#: ``weights@self.kernel`` and ``icon@2x.png`` were addresses.
_NAMES = """
    academy aero agency app arpa art asia associates bank beer berlin bio biz blog boutique business cafe camp care
    cat center church city cloud club codes coffee com community company computer consulting coop credit dance
    design dev digital directory doctor earth edu education email energy engineering enterprises events expert
    express family farm finance fitness foundation fund fun gallery games global gov group guide guru hamburg health
    help hospital house hub info institute insurance int international investments io jobs kitchen land law lawyer
    legal life link live llc loan london love ltd management market marketing media melbourne mil mobi moe money
    museum name net network news ngo ninja nyc one online ooo org page paris partners photo photography photos pizza
    plus press pro productions properties pub red ren report rest review rocks run sale school science security
    services shop show site social software solutions space store studio style support systems taxi team tech
    technology tel tips tokyo today tools top tours trade training travel university vegas ventures video vip vision
    wales wang watch web website wien wiki win wine work works world wtf xxx xyz yoga zone
"""
_GENERIC = frozenset(_NAMES.split())


def emails(text: str) -> Iterator[tuple[int, int]]:
    """Spans of e-mail addresses, ascending.

    Counts as one: a name, ``@``, a domain of two labels or more whose last is a country's (two letters), one of the
    generic ones in wide use, or international. Does not: userinfo of a URL, ``git@host:path``, names without a domain
    (``root@localhost``), addresses in disguise (``joe [at] example [dot] com``), names in other scripts than the Latin,
    Greek and Cyrillic ones.
    """
    at = text.find("@")
    end = 0
    while at >= 0:
        span = _around(text, at, end)
        if span is not None:
            end = span[1]
            yield span
        at = text.find("@", at + 1)


def _around(text: str, at: int, floor: int) -> tuple[int, int] | None:
    local = _LOCAL.match(text[max(floor, at - LOCAL - 1) : at][::-1])
    domain = _DOMAIN.match(text, at + 1, at + 255) if local else None
    if not local or not domain or local.end() > LOCAL:
        return None
    name = local.group()[::-1].lstrip("'.-%+")
    top = domain.group(1).lower()
    if not name or name.endswith(".") or not (len(top) == 2 or top in _GENERIC or top.startswith("xn--")):
        return None
    start = at - len(name)
    if name == "git" and text.startswith(":", domain.end()):
        return None
    return None if _USERINFO.search(text, max(0, start - 128), start) else (start, domain.end())
