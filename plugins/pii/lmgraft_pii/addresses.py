"""IP addresses, version 4 and 6: those of a machine that others can reach, and none that only look like one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from lmgraft_pii.letters import WORD

__all__ = ["ipv4", "ipv6"]

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"(?<![{WORD}.\-])(?:{_OCTET}\.){{3}}{_OCTET}(?![{WORD}\-]|\.[0-9])")
#: A number of a version or a section.
_NUMBERED = re.compile(
    r"(?:\b(?:version|versions|ver|v|release|rel|build|firmware|driver|kernel|rev|revision|update|patch|section|sections|"
    r"sec|chapter|clause|paragraph|para|article|figure|fig|table|appendix|annex|rule|step|item|oid|版本|версия)\b[.:]?"
    r"|§)\s{0,3}\(?\Z",
    re.IGNORECASE,
)
#: The same before a slash: ``Chrome/49.0.2.1``; a host in a URL has two.
_PRODUCT = re.compile(r"(?:^|[^/])/\Z")
_SAID = re.compile(r"\b(?:ip|ipv4|dns|servers?|host|address|ping|from|gateway|resolver)\b\W{0,12}\Z", re.IGNORECASE)
_HEX = "[0-9A-Fa-f]{1,4}"
_IPV6 = re.compile(rf"(?<![{WORD}:.\-])(?:{_HEX}:|:){{2,8}}(?:{_HEX})?(?![{WORD}:]|\.[0-9A-Fa-f])")
_GLOBAL = IPv6Network("2000::/3")
_LOCAL = (IPv6Network("fc00::/7"), IPv6Network("fe80::/10"))
#: What stands before and after the number of a section: nothing but white space on its line, then its title.
_ALONE = re.compile(r"(?:\A|\n)[ \t\u00a0]*\Z")
_TITLE = re.compile(r"\.?[ \t\u00a0]+[^\W\d_]")
# Whether it is worth looking: both begin with a class of characters, for which `re` has a fast loop.
_MAYBE4 = re.compile(r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]")
_MAYBE6 = re.compile(r"[23Ff][0-9A-Fa-f]{3}:")
#: Characters before a number that are looked at.
BEFORE = 32


def ipv4(text: str, public_only: bool) -> Iterator[tuple[int, int]]:
    """Spans of IPv4 addresses, ascending.

    Not those after a word of numbering (``version 4.2.2.1``, ``section 3.1.4.1``), nor those of five parts and more,
    nor what numbers a section: all parts below 40 at the beginning of a line with a title after it, or every part of
    one digit with no word such as ``IP`` before it.
    """
    for match in _IPV4.finditer(text) if _MAYBE4.search(text) else ():
        start, end = match.span()
        before = max(0, start - BEFORE)
        address = IPv4Address(match.group())
        if public_only and (not address.is_global or address.is_multicast):
            continue
        if _NUMBERED.search(text, before, start) or _PRODUCT.search(text, max(0, start - 2), start):
            continue
        if max(address.packed) < 40 and _ALONE.search(text, before, start) and _TITLE.match(text, end):
            continue
        if end - start == 7 and not _SAID.search(text, before, start):
            continue
        yield start, end


def ipv6(text: str, public_only: bool) -> Iterator[tuple[int, int]]:
    """Spans of IPv6 addresses, ascending: of global unicast (2000::/3), with ``public_only`` off also local ones.
    Times, MAC addresses and ``a::b`` of a programming language are none. Not those that end in an IPv4 address."""
    for match in _IPV6.finditer(text) if _MAYBE6.search(text) else ():
        try:
            address = IPv6Address(match.group())
        except ValueError:
            continue
        if (address in _GLOBAL and address.is_global) or (not public_only and _of_any_use(address)):
            yield match.span()


def _of_any_use(address: IPv6Address) -> bool:
    return address in _GLOBAL or any(address in network for network in _LOCAL)
