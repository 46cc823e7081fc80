"""Cuts long text at places that no token crosses, so that a document of any length is encoded in bounded memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

__all__ = ["PIECE", "is_cuttable", "pieces"]

#: Characters in one piece of a long document. The library needs about 140 bytes of memory a character.
PIECE = 1 << 16

_CUT = re.compile(r"(?<=\S)[ \n]")


def pieces(text: str, size: int = PIECE) -> Iterator[str]:
    """Cuts ``text`` into pieces of ``size`` characters or a little more; joined they are ``text`` again.

    A cut lies before a space or a line feed that follows something else than white space. GPT-2's pattern never
    joins those two (only the first alternatives may begin with a space, only the last ones hold white space), so with
    it the pieces give the very ids of the whole. Text without such a place stays in one piece.
    """
    start = 0
    while len(text) - start > size:
        found = _CUT.search(text, start + size)
        if found is None:
            break
        yield text[start : found.start()]
        start = found.start()
    yield text[start:]


def is_cuttable(content: dict[str, Any]) -> bool:
    """Does GPT-2's pattern alone decide where text is split, so that :func:`pieces` changes no id?"""
    splitter = content.get("pre_tokenizer") or {}
    return (
        splitter.get("type") == "ByteLevel"
        and splitter.get("use_regex", True) is True
        and splitter.get("add_prefix_space") is False
        and content.get("normalizer") is None
        and all(token["special"] for token in content.get("added_tokens") or [])
    )
