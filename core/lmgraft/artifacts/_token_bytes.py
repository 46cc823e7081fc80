"""What a piece of a vocabulary stands for, in bytes of text.

Bits per byte divide by these, so two tokenizers compare only where the bytes of a text's tokens add up to the text's:

- byte-level: exactly;
- SentencePiece's kind (U+2581 for a space, bytes as ``<0x41>``): exactly, but that a tokenizer which puts a space
  before every text counts it;
- WordPiece: what ``decode`` gives of it, since the text's own white space is lost: a piece that begins a word counts
  the space that is put before it (the first of a text too, which has none), one within a word its own bytes. The
  unknown token stands for a word that nobody can tell any more, and counts 0, as special tokens do: bits per byte of
  text with many of them come out too high.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from lmgraft.errors import Problem, UserError

__all__ = ["piece_measure"]

_BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")
_SPACE = "\u2581"
#: Marks before which WordPiece's decoder takes the space out again, where it cleans up.
_CLEANED = frozenset(".?!,")


def piece_measure(content: dict[str, Any]) -> Callable[[str], int]:
    """How many UTF-8 bytes of text a piece of this ``tokenizer.json`` stands for.

    Raises :class:`~lmgraft.errors.UserError` where that cannot be told.
    """
    model = content.get("model") or {}
    steps = [*_steps(content.get("pre_tokenizer")), *_steps(content.get("decoder"))]
    types = {str(step.get("type")) for step in steps}
    if "ByteLevel" in types:
        return len  # one character of the byte-level alphabet stands for one byte
    if types & {"ByteFallback", "Metaspace"} or any(map(_gives_spaces, steps)):
        return _sentence_piece_bytes
    if "WordPiece" in types or model.get("type") == "WordPiece":
        decoder = next((step for step in steps if step.get("type") == "WordPiece"), {})
        prefix = decoder.get("prefix") or model.get("continuing_subword_prefix") or "##"
        return lambda piece: _word_piece_bytes(piece, prefix, bool(decoder.get("cleanup")))
    problem = Problem(
        "tokenizer.json: the tokenizer is neither byte-level nor of SentencePiece's or WordPiece's kind",
        f"it splits and joins text with {', '.join(sorted(types)) or 'nothing'}, so a token's bytes are not known",
        "use a byte-level tokenizer such as byte_bpe",
    )
    raise UserError(problem)


def _sentence_piece_bytes(piece: str) -> int:
    return 1 if _BYTE_PIECE.fullmatch(piece) else len(piece.replace(_SPACE, " ").encode())


def _word_piece_bytes(piece: str, prefix: str, cleanup: bool) -> int:
    if piece.startswith(prefix) and piece != prefix:
        return len(piece.removeprefix(prefix).encode())
    return len(piece.encode()) + (not (cleanup and piece in _CLEANED))


def _gives_spaces(step: dict[str, Any]) -> bool:
    """Does this step of a decoder make spaces of U+2581?"""
    pattern = step.get("pattern") or {}
    return step.get("type") == "Replace" and pattern.get("String") == _SPACE and step.get("content") == " "


def _steps(node: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """The steps of a pre-tokenizer or decoder, sequences unfolded."""
    if node:
        yield node
        for inner in (*node.get("pretokenizers", ()), *node.get("decoders", ())):
            yield from _steps(inner)
