"""SentencePiece's ways of making pieces, as llama.cpp has them.

Its ``llama`` joins any two neighbours that make a piece, the piece of the highest score first; ``tokenizer.json`` lists
the pairs that may be joined, in order. The two agree where every pair of pieces that makes a piece is listed and the
order is that of the pieces they make, as in files converted from SentencePiece and in those of the tokenizer ``bpe``.

Its ``t5`` takes the cut whose scores add up highest, and of equal ones that whose last piece begins first; so does
``tokenizers``, but for the last bit of a score that it reads from tokenizer.json: by that bit it may cut a run of one
mark elsewhere, into the same pieces. ``t5`` has no bytes for unknown characters and splits no text into words, as the
tokenizer ``unigram`` does. llama.cpp's ``plamo2`` has bytes, no table, and of equal cuts it takes the one whose first
piece is the longest: it is no way out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
from lmgraft.errors import Problem, UserError

from lmgraft_gguf import charsmap
from lmgraft_gguf.normalising import SPACE, Rules, Unlike, rules

__all__ = ["Pieces", "bpe", "unigram"]

_TYPE = gguf.TokenType
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_REMEDY = "train with tokenizer bpe or byte_bpe, or lmgraft export hf"


@dataclass(slots=True)
class Pieces:
    """A vocabulary with scores."""

    model: str
    tokens: list[str]
    scores: list[float]
    types: list[int]
    ids: dict[str, int] = field(default_factory=dict)
    flags: dict[str, bool] = field(default_factory=dict)
    table: bytes = b""
    """Of characters that are changed."""


def bpe(folder: Path, content: Mapping[str, Any]) -> Pieces:
    """:raises UserError: llama.cpp would make other pieces of the same text."""
    model = content["model"]
    vocab: dict[str, int] = model["vocab"]
    if not model.get("byte_fallback"):
        raise _other(folder, "its BPE has no bytes for unknown characters (byte_fallback), and llama.cpp needs them")
    merges = [tuple(merge.split(" ", 1)) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    scores = _scores(folder, vocab, merges, {str(token["content"]) for token in content.get("added_tokens") or ()})
    tokens = _tokens(content, vocab)
    found = Pieces("llama", tokens, [scores.get(piece, -10_000.0) for piece in tokens], _types(tokens, content, model))
    told = _rules(folder, content)
    if told.table:
        raise _other(folder, "it normalises text by a table of characters, and llama.cpp's reader of BPE does not")
    if told.merged:
        raise _other(folder, "it drops superfluous spaces, and llama.cpp's reader of BPE does not")
    found.flags = {"add_space_prefix": told.prefix}
    return found


def unigram(folder: Path, content: Mapping[str, Any]) -> Pieces:
    """:raises UserError: llama.cpp would make other pieces of the same text."""
    model = content["model"]
    if model.get("byte_fallback"):
        raise _other(folder, "its unigram model spells unknown characters by bytes, and llama.cpp's has none for them")
    told = _rules(folder, content)
    _check_spaces(folder, content, told)
    vocab = {str(piece): index for index, (piece, _) in enumerate(model["vocab"])}
    tokens = _tokens(content, vocab)
    held = {str(piece): float(score) for piece, score in model["vocab"]}
    types = _types(tokens, content, model)
    _check_scores(folder, held, {str(token["content"]) for token in content.get("added_tokens") or ()})
    found = Pieces("t5", tokens, [held.get(piece, -10_000.0) for piece in tokens], types)
    if model.get("unk_id") is not None:
        found.ids["unknown"] = int(model["unk_id"])
    found.flags = {"add_space_prefix": told.prefix, "remove_extra_whitespaces": told.merged}
    found.table = charsmap.as_read_here(told.table) if told.table else b""
    return found


def _rules(folder: Path, content: Mapping[str, Any]) -> Rules:
    try:
        return rules(content)
    except Unlike as error:
        raise _other(folder, str(error)) from None


def _check_spaces(folder: Path, content: Mapping[str, Any], told: Rules) -> None:
    """What llama.cpp does about spaces in one way only."""
    if told.merged and not told.prefix:
        raise _other(folder, "it drops superfluous spaces and puts none before a text, and llama.cpp puts one")
    pre = content.get("pre_tokenizer") or {}
    steps = pre["pretokenizers"] if pre.get("type") == "Sequence" else [pre]
    if any(step.get("type") == "Metaspace" and step.get("split", True) for step in steps):
        over = [piece for piece, _ in content["model"]["vocab"] if SPACE in str(piece)[1:]]
        if over:
            raise _other(folder, f"it splits text before spaces, and llama.cpp would find {over[0]!r} over one")


def _check_scores(folder: Path, held: Mapping[str, float], special: set[str]) -> None:
    """The lowest one is the same there: that of unknown text is derived from it."""
    own = [score for piece, score in held.items() if piece not in special]
    if own and min(own) > min(held.values()):
        cause = "its lowest score is a special token's, and llama.cpp derives that of unknown text from the others"
        raise _other(folder, cause)


def _scores(folder: Path, vocab: Mapping[str, int], merges: list[Any], special: set[str]) -> dict[str, float]:
    """Score of each piece that is made: the earlier, the higher."""
    listed = set(merges)
    order: dict[str, int] = {}
    for left, right in merges:
        order.setdefault(left + right, len(order))
    wanted = [order[left + right] for left, right in merges]
    if wanted != sorted(wanted):
        raise _other(folder, "its merges are not in the order of the pieces that they make")
    normal = {piece: None for piece in vocab if piece not in special and not _BYTE.fullmatch(piece)}
    for piece in normal:
        for cut in range(1, len(piece)):
            pair = (piece[:cut], piece[cut:])
            # A single character may stand in a text whether it is a piece or not.
            if pair not in listed and all(part in normal or len(part) == 1 for part in pair):
                raise _other(folder, f"{pair[0]!r} and {pair[1]!r} make a piece and are not among its merges")
    return {piece: -float(rank) for piece, rank in order.items()}


def _tokens(content: Mapping[str, Any], vocab: Mapping[str, int]) -> list[str]:
    named = {index: piece for piece, index in vocab.items()}
    named |= {int(token["id"]): str(token["content"]) for token in content.get("added_tokens") or ()}
    return [named.get(index, f"[unused{index}]") for index in range(max(named, default=-1) + 1)]


def _types(tokens: list[str], content: Mapping[str, Any], model: Mapping[str, Any]) -> list[int]:
    unknown = model.get("unk_token")
    if model.get("type") == "Unigram" and model.get("unk_id") is not None:
        unknown = tokens[int(model["unk_id"])]
    return [
        _TYPE.UNKNOWN if piece == unknown else _TYPE.BYTE if _BYTE.fullmatch(piece) else _TYPE.NORMAL
        for piece in tokens
    ]


def _other(folder: Path, cause: str) -> UserError:
    return UserError(Problem(f"{folder}: llama.cpp would read text by other tokens", cause, _REMEDY))
