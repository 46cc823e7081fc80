"""SentencePiece's ways of making pieces, as llama.cpp has them.

Its ``llama`` joins any two neighbours that make a piece, the piece of the highest score first; ``tokenizer.json`` lists
the pairs that may be joined, in order. The two agree where every pair of pieces that makes a piece is listed and the
order is that of the pieces they make, as in files converted from SentencePiece and in those of the tokenizer ``bpe``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
from lmgraft.errors import Problem, UserError

__all__ = ["Pieces", "bpe", "unigram"]

_TYPE = gguf.TokenType
_SPACE = "\u2581"
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
    found.flags = {"add_space_prefix": _prefix(folder, content)}
    return found


def unigram(folder: Path, content: Mapping[str, Any]) -> Pieces:
    """:raises UserError: llama.cpp would make other pieces of the same text."""
    model = content["model"]
    if model.get("byte_fallback"):
        raise _other(folder, "its unigram model spells unknown characters by bytes, which llama.cpp's does not")
    prefix = _prefix(folder, content)
    vocab = {str(piece): index for index, (piece, _) in enumerate(model["vocab"])}
    tokens = _tokens(content, vocab)
    held = {str(piece): float(score) for piece, score in model["vocab"]}
    found = Pieces("t5", tokens, [held.get(piece, -10_000.0) for piece in tokens], _types(tokens, content, model))
    if model.get("unk_id") is not None:
        found.ids["unknown"] = int(model["unk_id"])
    found.flags = {"add_space_prefix": prefix, "remove_extra_whitespaces": False}
    return found


def _scores(folder: Path, vocab: Mapping[str, int], merges: list[Any], special: set[str]) -> dict[str, float]:
    """Score of each piece that is made: the earlier, the higher."""
    listed = set(merges)
    order: dict[str, int] = {}
    for left, right in merges:
        order.setdefault(left + right, len(order))
    wanted = [order[left + right] for left, right in merges]
    if wanted != sorted(wanted):
        raise _other(folder, "its merges are not in the order of the pieces that they make")
    for piece in order:
        for cut in range(1, len(piece)):
            pair = (piece[:cut], piece[cut:])
            own = all(part in vocab and part not in special and not _BYTE.fullmatch(part) for part in pair)
            if own and pair not in listed:
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


def _prefix(folder: Path, content: Mapping[str, Any]) -> bool:
    """Whether a space is put before a text, by the normalizer or the pre-tokenizer.

    :raises UserError: they do more than that and than spelling spaces as U+2581.
    """
    normalizer, pre = content.get("normalizer"), content.get("pre_tokenizer")
    steps = normalizer["normalizers"] if (normalizer or {}).get("type") == "Sequence" else [normalizer]
    prefix = False
    for step in filter(None, steps):
        if step["type"] == "Prepend" and step.get("prepend") == _SPACE:
            prefix = True
        elif not (step["type"] == "Replace" and step.get("pattern") == {"String": " "} and step["content"] == _SPACE):
            raise _other(folder, f"it normalises text ({step['type']}), and llama.cpp's reader does not")
    if pre is not None and pre.get("type") != "Metaspace":
        raise _other(
            folder, f"it splits text before pieces are made ({pre.get('type')}), and llama.cpp's reader does not"
        )
    scheme = (pre or {}).get("prepend_scheme", "always" if (pre or {}).get("add_prefix_space") else "never")
    return prefix or scheme in ("always", "first")


def _other(folder: Path, cause: str) -> UserError:
    return UserError(Problem(f"{folder}: llama.cpp would read text by other tokens", cause, _REMEDY))
