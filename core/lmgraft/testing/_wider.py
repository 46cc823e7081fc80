"""A tokenizer of more tokens than the kit's models have, and a look at the rows that a merge gave them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lmgraft.artifacts import checkpoint, streaming
from lmgraft.artifacts import tokenizer as saved
from lmgraft.testing.inputs import byte_tokenizer

__all__ = ["rows_kept", "wider_tokenizer"]

#: Merges of pieces that are there before them; each makes a token beyond those of the kit's models.
_MERGES = (("t", "h"), ("th", "e"), ("\u0120", "the"), ("i", "n"), ("in", "g"))
#: Two tokens whose ids are exchanged.
_MOVED = ("a", "b")


def wider_tokenizer(folder: Path) -> None:
    """The tokens of :func:`~lmgraft.testing.inputs.byte_tokenizer`, two with each other's id, and a few more."""
    byte_tokenizer(folder)
    content = json.loads((folder / saved.FILE).read_text(encoding="utf-8"))
    model = content["model"]
    vocabulary = model["vocab"] | {token["content"]: token["id"] for token in content["added_tokens"]}
    first, second = _MOVED
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    for left, right in _MERGES:
        vocabulary[left + right] = len(vocabulary)
    model |= {"vocab": vocabulary, "merges": [list(pair) for pair in _MERGES]}
    (folder / saved.FILE).write_text(json.dumps(content), encoding="utf-8")


def rows_kept(model: Path, tokenizer: Path, out: Path) -> str:
    """What is wrong with a model that was given the vocabulary of ``tokenizer``; empty where nothing is."""
    loaded, before = saved.load(tokenizer), _vocabulary(model)
    size = checkpoint.read_config(out).get("vocab_size")
    if size != loaded.vocab_size:
        return f"its config.json tells of {size} tokens, and the tokenizer has {loaded.vocab_size}"
    for key, index in (("eos_token_id", loaded.end_id), ("pad_token_id", loaded.pad_id)):
        told = checkpoint.read_config(out).get(key)
        if told != index and index not in (told if isinstance(told, list) else ()):
            return f"its config.json has {key} {told}, and the tokenizer's is {index}"
    old, new = streaming.pieces(model), streaming.pieces(out)
    rows = checkpoint.read_config(model)["vocab_size"]
    found = [name for name, piece in old.items() if len(piece.header.shape) == 2 and piece.header.shape[0] == rows]
    for name in found:
        if name not in new or new[name].header.shape[0] != loaded.vocab_size:
            there = f"has {new[name].header.shape[0]} rows" if name in new else "is not there"
            return f"{name} {there}, and the tokenizer has {loaded.vocab_size} tokens"
        for piece, index in _vocabulary(tokenizer).items():
            if piece in before and _row(old[name], before[piece]) != _row(new[name], index):
                return f"{name}: the row of {piece!r}, number {index} now, is not its old one, number {before[piece]}"
    return "" if found else f"no tensor of {model} has {rows} rows"


def _vocabulary(folder: Path) -> dict[str, int]:
    content: dict[str, Any] = json.loads((folder / saved.FILE).read_text(encoding="utf-8"))
    special = {token["content"]: token["id"] for token in content["added_tokens"]}
    return {**content["model"]["vocab"], **special}


def _row(piece: streaming.Piece, number: int) -> bytes:
    width = piece.size // piece.header.shape[0]
    with piece.header.file.open("rb") as file:
        file.seek(piece.start + number * width)
        return file.read(width)
