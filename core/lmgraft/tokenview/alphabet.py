"""What a piece of a vocabulary stands for, as bytes of text, whichever way the vocabulary spells it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

__all__ = ["BYTE_LEVEL", "PLAIN", "SENTENCE_PIECE", "WORD_PIECE", "byte_alphabet", "spelling", "spells"]

BYTE_LEVEL, SENTENCE_PIECE, WORD_PIECE, PLAIN = "byte-level", "SentencePiece", "WordPiece", "plain"

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@lru_cache(maxsize=1)
def byte_alphabet() -> dict[str, int]:
    """Character -> the byte that it stands for in byte-level vocabularies: printable Latin-1 characters for
    themselves, those from U+0100 on for the others.

    Source: GPT-2's ``encoder.py`` (``bytes_to_unicode``).
    """
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in own]
    return {chr(byte): byte for byte in own} | {chr(256 + place): byte for place, byte in enumerate(others)}


def spelling(content: Mapping[str, Any]) -> str:
    """How the vocabulary of this ``tokenizer.json`` spells text: ``byte-level``, ``SentencePiece``, ``WordPiece`` or
    ``plain``."""
    types = {*_types(content.get("pre_tokenizer")), *_types(content.get("decoder"))}
    model = content.get("model") or {}
    if "ByteLevel" in types:
        return BYTE_LEVEL
    if types & {"ByteFallback", "Metaspace"} or model.get("byte_fallback"):
        return SENTENCE_PIECE
    return WORD_PIECE if "WordPiece" in (model.get("type"), *types) else PLAIN


def _types(node: Any) -> Iterator[str]:
    """The kinds of a pre-tokenizer or decoder, sequences unfolded."""
    if isinstance(node, Mapping):
        yield str(node.get("type"))
        for inner in (*(node.get("pretokenizers") or ()), *(node.get("decoders") or ())):
            yield from _types(inner)


def spells(content: Mapping[str, Any]) -> Callable[[str], bytes]:
    """The bytes of text that a piece of this ``tokenizer.json`` stands for.

    Of WordPiece these are its letters: the white space before a word belongs to no token.
    """
    kind, model = spelling(content), content.get("model") or {}
    if kind == BYTE_LEVEL:
        return _byte_level
    if kind == SENTENCE_PIECE:
        return _sentence_piece
    prefix = str(model.get("continuing_subword_prefix") or "")
    suffix = str(model.get("end_of_word_suffix") or "")
    return lambda piece: piece.removeprefix(prefix).removesuffix(suffix).encode("utf-8", "replace")


def _byte_level(piece: str) -> bytes:
    alphabet = byte_alphabet()
    if all(character in alphabet for character in piece):
        return bytes(alphabet[character] for character in piece)
    return piece.encode("utf-8", "replace")


def _sentence_piece(piece: str) -> bytes:
    match = _BYTE_PIECE.fullmatch(piece)
    return bytes([int(match[1], 16)]) if match else piece.replace("\u2581", " ").encode("utf-8", "replace")
