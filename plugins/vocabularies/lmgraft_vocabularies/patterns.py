"""The split patterns of byte-level tokenizers: which ones llama.cpp knows, and how this plugin splits by them itself.

GGUF names a pattern by a word and llama.cpp holds the patterns; a model whose tokenizer splits by another cannot be
converted ("BPE pre-tokenizer was not recognized"). The patterns are those in the models' own tokenizer.json.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from lmgraft.errors import Problem, UserError

__all__ = ["check_pattern", "is_byte_level", "splitter_of"]

_MODERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
KNOWN = {
    "gpt-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama-bpe": _MODERN % "{1,3}",
    "qwen2": _MODERN % "",
}


def is_byte_level(content: dict[str, Any]) -> bool:
    """Whether this tokenizer.json is byte-level BPE."""
    return content["model"].get("type", "BPE") == "BPE" and any(
        node.get("type") == "ByteLevel" for node in _nodes(content.get("pre_tokenizer"))
    )


def check_pattern(content: dict[str, Any], path: Path) -> None:
    """Raises :class:`~lmgraft.errors.UserError` for byte-level BPE that splits text by an unknown pattern."""
    if is_byte_level(content) and _pattern(content) is None:
        fact = f"{path} splits text by a pattern that is not GPT-2's, LLaMA-3's or Qwen-2's"
        cause = "llama.cpp knows a fixed list of patterns, so no model with this tokenizer can be exported to GGUF"
        raise UserError(Problem(fact, cause, "any_pattern=true if that is meant, or another tokenizer"))


def splitter_of(content: dict[str, Any]) -> Callable[[str], list[str]] | None:
    """Cuts normalised text into the words that no token crosses, as the library does and many times as fast; None for
    other patterns."""
    name = _pattern(content)
    return None if name is None else _compiled(name).findall


def _pattern(content: dict[str, Any]) -> str | None:
    """The word that GGUF has for the pattern, or None."""
    nodes = [node for node in _nodes(content.get("pre_tokenizer")) if node.get("type") != "Sequence"]
    levels = [node for node in nodes if node.get("type") == "ByteLevel"]
    if len(levels) != 1 or levels[0].get("add_prefix_space", True):
        return None
    own = levels[0].get("use_regex", True)
    others = [node for node in nodes if node.get("type") != "ByteLevel"]
    if own:
        return None if others else "gpt-2"
    if len(others) != 1 or others[0].get("type") != "Split":
        return None
    # Some files have (?i:...) spelt out, and it is the same pattern.
    regex = others[0].get("pattern", {}).get("Regex")
    isolated = others[0].get("behavior") in ("Isolated", "isolated") and not others[0].get("invert")
    found = [name for name, known in KNOWN.items() if known == regex]
    removed = others[0].get("behavior") in ("Removed", "removed") and others[0].get("invert")
    return found[0] if found and (isolated or removed) else None


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for inner in node.get("pretokenizers") or ():
            yield from _nodes(inner)


@cache
def _compiled(name: str) -> re.Pattern[str]:
    """The pattern for Python's ``re``, which knows no ``\\p{L}`` and has other white space."""
    letters, numbers, spaces = _ranges("L", "N", "Z")
    spaces += "\\t\\n\\x0b\\x0c\\r\\x85"
    pattern = KNOWN[name].replace(r"[^\s\p{L}\p{N}]", f"[^{spaces}{letters}{numbers}]")
    pattern = pattern.replace(r"[^\r\n\p{L}\p{N}]", rf"[^\r\n{letters}{numbers}]")
    pattern = pattern.replace(r"\p{L}", f"[{letters}]").replace(r"\p{N}", f"[{numbers}]")
    return re.compile(pattern.replace(r"\S", f"[^{spaces}]").replace(r"\s", f"[{spaces}]"))


def _ranges(*kinds: str) -> list[str]:
    """The characters of each general category as the inside of a character class."""
    found: dict[str, list[list[int]]] = {kind: [] for kind in kinds}
    for code in range(sys.maxunicode + 1):
        runs = found.get(unicodedata.category(chr(code))[0])
        if runs and runs[-1][1] == code - 1:
            runs[-1][1] = code
        elif runs is not None:
            runs.append([code, code])
    return ["".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in runs) for runs in found.values()]
