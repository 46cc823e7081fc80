"""Bytes of a page as text: which encoding they have, and what could not be decoded."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Decoded", "decode"]

#: Above this share of characters that cannot be decoded the next candidate is tried.
BAD_SHARE = 0.01
#: Marks at the very start, which outdo all that is declared (WHATWG, Encoding: "decode").
_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
#: How far into a page its declaration is looked for. Browsers take 1024 bytes; scripts stand before it in many pages.
PRESCAN = 1 << 14
_META = re.compile(
    rb"(?i)<(?:meta\b[^<>]{0,500}?\bcharset|\?xml\b[^<>]{0,200}?\bencoding)\s*=\s*[\"']?\s*([\w.:-]{2,40})"
)


class Decoded(NamedTuple):
    """A text and how it was found."""

    text: str
    charset: str
    """The encoding's name, as Python has it."""
    replaced: int
    """Characters that could not be decoded; U+FFFD stands in their place."""


def decode(data: bytes, declared: str | None = None, markup: bool = True) -> Decoded:
    """``data`` as text: by its byte order mark; else as ``declared`` (by HTTP); else as its ``meta`` says where it is
    ``markup``; else as UTF-8 where it is that; else as resiliparse guesses.

    Labels mean what WHATWG's Encoding standard says (latin-1 is windows-1252). A declaration that leaves more than
    one character in a hundred undecoded gives way to the candidate that leaves the fewest. The mark is no text.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return _decoded(data[len(mark) :], name)
    best: Decoded | None = None
    for name in _candidates(data, declared, markup):
        found = _decoded(data, name)
        if best is None or found.replaced < best.replaced:
            best = found
        if best.replaced <= BAD_SHARE * len(best.text):
            break
    assert best is not None
    return best


def _candidates(data: bytes, declared: str | None, markup: bool) -> Iterator[str]:
    from resiliparse.parse.encoding import detect_encoding

    found = _META.search(data, 0, PRESCAN) if markup else None
    inside = found[1].decode("ascii").lower() if found else None
    if inside and inside.startswith("utf-16"):
        inside = "utf-8"  # that a declaration in ASCII could be read disproves it; so says WHATWG
    labels = [declared, inside]
    yield from (name for name in map(_known, labels) if name)
    if _is_utf8(data):
        yield "utf-8"  # no other encoding's text is valid UTF-8 by chance
    # A guess needs more than a page's ASCII head; cp1252 is what browsers fall back to.
    yield _known(detect_encoding(data, max_len=1 << 20)) or "cp1252"


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _known(label: str | None) -> str | None:
    from resiliparse.parse.encoding import map_encoding_to_html5

    name = map_encoding_to_html5(label, fallback_utf8=False) if label else None
    try:
        found = codecs.lookup(name).name if name else None
        return "gb18030" if found in ("gbk", "gb2312") else found  # its decoder, says WHATWG; a superset of both
    except LookupError:
        return None


def _decoded(data: bytes, name: str) -> Decoded:
    try:
        return Decoded(data.decode(name), name, 0)
    except UnicodeDecodeError:
        text = data.decode(name, "replace")
    return Decoded(text, name, max(1, text.count("\ufffd") - data.count(b"\xef\xbf\xbd") * (name == "utf-8")))
