"""What a SentencePiece tokenizer does to text before pieces are made, as far as llama.cpp can be told of it.

llama.cpp knows a space before a text (``add_space_prefix``), superfluous spaces that are dropped
(``remove_extra_whitespaces``) and a table of characters (``precompiled_charsmap``); spaces are spelt U+2581 always. In
tokenizer.json these are steps, which are recognised here in the forms of converted SentencePiece models.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["SPACE", "Rules", "Unlike", "rules"]

SPACE = "\u2581"
#: What keeps characters apart while lmgraft's converter lets the table be looked up.
_BREAK = "\U0010fffd"
_SPELT = ("Replace", " ", SPACE)
_PREFIX = ("Prepend", SPACE)
#: Spaces at the beginning, runs within, spaces at the end.
_SUPERFLUOUS = (("Replace", r"\A +", ""), ("Replace", " {2,}", " "), ("Replace", rf"{SPACE}+\z", ""))
_BORDER = re.compile(r"\(\?<=((?:\\.|[^()\\|])+)\)\(\?=((?:\\.|[^()\\])+)\)")
_BYTE = "0x[0-9A-F]{2}>"


class Unlike(Exception):
    """Why llama.cpp would read text otherwise."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What llama.cpp is told."""

    prefix: bool
    """A space stands before a text."""
    merged: bool
    """Superfluous spaces are dropped."""
    table: bytes
    """SentencePiece's table of characters; empty where there is none."""


def rules(content: Mapping[str, Any]) -> Rules:
    """Those of a tokenizer.json.

    :raises Unlike: it does something else.
    """
    normalizer = content.get("normalizer") or {}
    steps = list(normalizer["normalizers"] if normalizer.get("type") == "Sequence" else filter(None, [normalizer]))
    left = [_shape(step) for step in steps]
    table, prefix = b"", False
    if ("Precompiled",) in left:
        prefix, left = _without_table(left)
        table = base64.b64decode(next(step for step in steps if step["type"] == "Precompiled")["precompiled_charsmap"])
    merged = all(step in left for step in _SUPERFLUOUS)
    before, spelt = _before(content)
    for step in left:
        if step == _PREFIX:
            prefix = True
        elif step == _SPELT:
            spelt = True
        elif not (merged and step in _SUPERFLUOUS):
            raise Unlike(f"it normalises text ({step[0]}), and llama.cpp's reader does not")
    if not spelt:
        raise Unlike("its pieces hold spaces as they are, and llama.cpp spells them U+2581")
    return Rules(prefix or before, merged, table)


def _shape(step: Mapping[str, Any]) -> tuple[str, ...]:
    kind = str(step["type"])
    if kind == "Replace":
        pattern = step["pattern"]
        return (kind, str(pattern.get("Regex", pattern.get("String"))), str(step["content"]))
    return (kind, str(step["prepend"])) if kind == "Prepend" else (kind,)


def _without_table(left: list[tuple[str, ...]]) -> tuple[bool, list[tuple[str, ...]]]:
    """Whether a space is put before a text by the steps around the table; the steps without these."""
    at = left.index(("Precompiled",))
    before, after = left[:at], left[at + 1 :]
    first = before[:1] == [("Prepend", _BREAK)]
    opened = [("Replace", rf"\A{_BREAK}", " ")] if first else []
    closed = [*opened, ("Replace", _BREAK, "")]
    own = before[first:]
    if len(own) != 1 or own[0][0] != "Replace" or own[0][-1] != _BREAK or after[: len(closed)] != closed:
        if any(step[0] == "Replace" and step[-1] == _BREAK for step in before):
            raise Unlike(
                "it keeps user-defined pieces out of its table of characters, and llama.cpp cuts them out first"
            )
        raise Unlike(
            "it looks its table of characters up by whole graphemes (Precompiled), and llama.cpp's reader by characters"
        )
    return first, after[len(closed) :]


def _before(content: Mapping[str, Any]) -> tuple[bool, bool]:
    """Of the pre-tokenizer: whether a space is put before a text, and whether spaces become U+2581."""
    pre = content.get("pre_tokenizer")
    steps = [] if pre is None else pre["pretokenizers"] if pre.get("type") == "Sequence" else [pre]
    special = {str(token["content"]) for token in content.get("added_tokens") or () if token.get("special")}
    prefix = spelt = False
    for step in steps:
        kind = step.get("type")
        if kind == "Metaspace":
            scheme = step.get("prepend_scheme", "always" if step.get("add_prefix_space") else "never")
            prefix, spelt = prefix or scheme in ("always", "first"), True
        elif not (kind == "Split" and _within(str((step.get("pattern") or {}).get("Regex", "")), special)):
            raise Unlike(f"it splits text before pieces are made ({kind}), and llama.cpp's reader does not")
    return prefix, spelt


def _within(pattern: str, special: set[str]) -> bool:
    """Whether a pattern cuts special tokens that a text spells, and nothing else: llama.cpp never finds those."""
    at = 0
    while found := _BORDER.match(pattern, at):
        ends = re.findall(r"(?:\\.|[^|\\])+", found[2])
        if any(end != _BYTE and re.sub(r"\\(.)", r"\1", found[1] + end) not in special for end in ends):
            return False
        at = found.end()
        if at == len(pattern):
            return True
        if pattern[at] != "|":
            return False
        at += 1
    return False
