"""What a piece of a vocabulary stands for, in bytes of text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from lmgraft.errors import Problem, UserError

__all__ = ["piece_measure"]

_BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")


def piece_measure(content: dict[str, Any]) -> Callable[[str], int]:
    """How many UTF-8 bytes of text a piece of this ``tokenizer.json`` stands for.

    Raises :class:`~lmgraft.errors.UserError` where that cannot be told.
    """
    types = set(_types(content.get("pre_tokenizer"))) | set(_types(content.get("decoder")))
    if "ByteLevel" in types:
        return len  # one character of the byte-level alphabet stands for one byte
    if types & {"ByteFallback", "Metaspace"}:
        return _sentence_piece_bytes
    problem = Problem(
        "tokenizer.json: the tokenizer is neither byte-level nor of SentencePiece's kind",
        f"it splits and joins text with {', '.join(sorted(types)) or 'nothing'}, so a token's bytes are not known",
        "use a byte-level tokenizer such as byte_bpe",
    )
    raise UserError(problem)


def _sentence_piece_bytes(piece: str) -> int:
    return 1 if _BYTE_PIECE.fullmatch(piece) else len(piece.replace("\u2581", " ").encode())


def _types(node: dict[str, Any] | None) -> Iterator[str]:
    """The kinds of a pre-tokenizer or decoder, sequences unfolded."""
    if node:
        yield str(node.get("type"))
        for inner in (*node.get("pretokenizers", ()), *node.get("decoders", ())):
            yield from _types(inner)
