"""Special tokens that a text writes out stay text, whatever the model of a stranger's tokenizer.json.

``tokenizers`` can be told to look for no special token in a text, but its model may find one all the same: unigram
looks up every string, and where a whole word is looked up (word level, WordPiece, BPE with ``ignore_merges``) a word
may spell one. T5's file, as it is, makes the end token of ``</s>`` in a document. Such tokens are cut behind their
first character, after all other splitting, so no other text is encoded differently.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lmgraft.errors import Problem, UserError
from tokenizers import Tokenizer

from lmgraft_vocabularies.library import opened

__all__ = ["keep_as_text"]

#: A token stands alone, between letters, between words, and behind a space that stays one.
_PLACES = ("{}", "a{}b", "a {} b", " {}", "\u2581{}")


def keep_as_text(content: dict[str, Any], path: Path) -> Tokenizer:
    """Changes ``content`` (of tokenizer.json) so that no text gets the id of a special token but the unknown one's;
    returns the tokenizer that it then describes.

    Raises :class:`~lmgraft.errors.UserError` for one that cannot be kept out of text: a single character.
    """
    tokenizer = opened(content, path)
    taken = _taken(content, tokenizer)
    if not taken:
        return tokenizer
    own = content.get("pre_tokenizer")
    steps = [] if own is None else own["pretokenizers"] if own["type"] == "Sequence" else [own]
    pattern = {"Regex": "|".join(_borders(taken))}
    split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [*steps, split]} if steps else split
    tokenizer = opened(content, path)
    left = _taken(content, tokenizer)
    if left:
        fact = f"{path}: text that spells the special token {left[0]!r} gets its id"
        cause = "a document could end another, or itself, by what it says"
        raise UserError(Problem(fact, cause, "take it off the added_tokens of tokenizer.json, or another tokenizer"))
    return tokenizer


def _taken(content: dict[str, Any], tokenizer: Tokenizer) -> list[str]:
    """Special tokens that a text gets by spelling them."""
    unknown, index = content["model"].get("unk_token"), content["model"].get("unk_id")
    special = {token["content"]: token["id"] for token in content.get("added_tokens") or [] if token.get("special")}
    named = [token for token, own in special.items() if token != unknown and own != index]
    ids = {special[token] for token in named}
    found = []
    for token in named:
        spelt = tokenizer.encode_batch([place.format(token) for place in _PLACES], add_special_tokens=False)
        if any(not ids.isdisjoint(one.ids) for one in spelt):
            found.append(token)
    return found


def _borders(tokens: Iterable[str]) -> list[str]:
    """Places behind the first character of the tokens, by that character."""
    rests: dict[str, list[str]] = {}
    for token in tokens:
        if len(token) > 1:
            rests.setdefault(token[0], []).append(re.escape(token[1:]))
    return [f"(?<={re.escape(first)})(?={'|'.join(ends)})" for first, ends in rests.items()] or ["(?!)"]
