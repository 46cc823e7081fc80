"""A SentencePiece model as the content of tokenizer.json, so that ids are those of ``sentencepiece`` itself.

What a model does is said in Hugging Face's terms:

- pieces keep their ids. BPE: scores become the order of merges (``merges.py``). Unigram: scores as they are.
- the normalizer becomes a sequence: the charsmap, no superfluous spaces, U+2581 for each space and before all.
- user-defined pieces are cut out of the text before the model sees it, longest first, wherever they stand.
- control, byte and unknown pieces are never found in text: ``</s>`` written out is four characters.

Differences that cannot be expressed are listed in the README.
"""

from __future__ import annotations

import base64
import re
from typing import Any

from lmgraft.errors import Problem, UserError

from lmgraft_vocabularies.charsmap import BREAK, apart
from lmgraft_vocabularies.merges import merges_of
from lmgraft_vocabularies.sentence_model import SPACE, Kind, PieceType, SentenceModel

__all__ = ["added", "to_json"]

#: The end of the last private use area; a text that holds these already holds user-defined pieces.
_STAND_IN, _MOST_STAND_INS = 0x10F000, 0xFF0
_SPECIAL = (PieceType.control, PieceType.unknown)


def to_json(model: SentenceModel) -> dict[str, Any]:
    """The content of tokenizer.json.

    Raises :class:`~lmgraft.errors.UserError` for models of whole words or characters, for those that mark spaces at the
    end of words, and for BPE with unused pieces, which SentencePiece merges and takes apart again.
    """
    _check(model)
    symbols = [piece.text for piece in model.pieces if piece.type is PieceType.user_defined]
    special = [(index, piece) for index, piece in enumerate(model.pieces) if piece.type in _SPECIAL]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added(index, piece.text) for index, piece in special],
        "normalizer": _normalizer(model, symbols),
        "pre_tokenizer": _pre_tokenizer(model, symbols),
        "post_processor": None,
        "decoder": _decoder(model),
        "model": _bpe(model, symbols) if model.kind is Kind.bpe else _unigram(model),
    }


def added(index: int, text: str) -> dict[str, Any]:
    """A special token as tokenizer.json lists it."""
    marks = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": index, "content": text, **marks}


def _check(model: SentenceModel) -> None:
    unused = sum(piece.type is PieceType.unused for piece in model.pieces)
    if model.kind not in (Kind.bpe, Kind.unigram):
        fact = f"{model.path} is a SentencePiece model of the type {model.kind.name}"
        cause = "tokenizer.json cannot say how it cuts text; bpe and unigram it can"
    elif model.space_is_suffix:
        fact = f"{model.path} marks spaces at the end of words (treat_whitespace_as_suffix)"
        cause = "tokenizer.json can mark them at the beginning only"
    elif unused:
        fact = f"{model.path} has {unused} unused pieces"
        cause = "SentencePiece passes over them in a way that tokenizer.json cannot express"
    else:
        return
    raise UserError(Problem(fact, cause, "train it again with model_type=bpe or unigram, and such settings left out"))


def _bpe(model: SentenceModel, symbols: list[str]) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": model.unknown_piece,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": model.byte_fallback,
        # A user-defined piece is a stretch of its own, and taken whole; nothing merges to it.
        "ignore_merges": bool(symbols),
        "vocab": {piece.text: index for index, piece in enumerate(model.pieces)},
        "merges": [list(pair) for pair in merges_of(model.pieces)],
    }


def _unigram(model: SentenceModel) -> dict[str, Any]:
    unknown = next(index for index, piece in enumerate(model.pieces) if piece.type is PieceType.unknown)
    lowest = min((piece.score for piece in model.pieces if piece.type is PieceType.normal), default=0.0)
    # The library derives the score of unknown characters from the lowest of all pieces, sentencepiece from that of
    # normal ones; those that are never found in text have none of their own.
    scores = {PieceType.normal: None, PieceType.user_defined: 0.0}
    vocab = [
        [piece.text, piece.score if piece.type is PieceType.normal else scores.get(piece.type, lowest)]
        for piece in model.pieces
    ]
    return {"type": "Unigram", "unk_id": unknown, "vocab": vocab, "byte_fallback": model.byte_fallback}


def _normalizer(model: SentenceModel, symbols: list[str]) -> dict[str, Any] | None:
    """What sentencepiece's normalizer.cc does, in its order."""
    space = SPACE if model.escape_spaces else " "
    steps: list[dict[str, Any]] = []
    if model.charsmap:
        steps += _charsmap(model, symbols)
    if model.remove_extra_spaces:
        steps += [_replace({"Regex": r"\A +"}, ""), _replace({"Regex": " {2,}"}, " ")]
    if model.escape_spaces:
        steps.append(_replace({"String": " "}, SPACE))
    if model.remove_extra_spaces:
        steps.append(_replace({"Regex": rf"{space}+\z"}, ""))
    if model.dummy_prefix and not _prefix_first(model):
        steps.append({"type": "Prepend", "prepend": space})
    return {"type": "Sequence", "normalizers": steps} if steps else None


def _charsmap(model: SentenceModel, symbols: list[str]) -> list[dict[str, Any]]:
    """The table of characters. User-defined pieces are not to be changed by it: characters of the private use area
    stand for them meanwhile."""
    table = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(model.charsmap).decode()}
    if len(symbols) > _MOST_STAND_INS:
        fact = f"{model.path} has {len(symbols)} user-defined pieces beside a table of characters"
        cause = f"tokenizer.json can keep {_MOST_STAND_INS} of them out of the table's reach"
        raise UserError(Problem(fact, cause, "train it again with normalization_rule_name=identity"))
    ordered = sorted(symbols, key=len, reverse=True)
    pairs = [(text, chr(_STAND_IN + number)) for number, text in enumerate(ordered)]
    out = [_replace({"String": text}, letter) for text, letter in pairs]
    back = [_replace({"String": letter}, text) for text, letter in pairs]
    broken = _replace({"Regex": apart(model.charsmap)}, BREAK)
    steps = [*out, broken, table, _replace({"String": BREAK}, ""), *back]
    if not _prefix_first(model):
        return steps
    begin = _replace({"Regex": rf"\A{BREAK}"}, " ")
    return [{"type": "Prepend", "prepend": BREAK}, *steps[: len(out) + 2], begin, *steps[len(out) + 2 :]]


def _prefix_first(model: SentenceModel) -> bool:
    """Whether the space before a text stands there even where the table removes all of the text."""
    return bool(model.charsmap) and model.dummy_prefix and not model.remove_extra_spaces


def _replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _pre_tokenizer(model: SentenceModel, symbols: list[str]) -> dict[str, Any] | None:
    steps = []
    if symbols:
        texts = sorted((text.replace(" ", SPACE) for text in symbols), key=len, reverse=True)
        steps.append(_split("|".join(map(_escaped, texts))))
    if symbols or model.kind is Kind.unigram:  # merges never spell a special token, but whole stretches may be one
        steps.append(_split("|".join(_within(model))))
    if not steps:
        return None
    return steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": steps}


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _within(model: SentenceModel) -> list[str]:
    """Places within special tokens that are written out: cut there, they are found no more."""
    known = {piece.text for piece in model.pieces if piece.type is PieceType.normal and len(piece.text) == 1}
    texts = [piece.text for piece in model.pieces if piece.type in _SPECIAL and len(piece.text) > 1]
    found = []
    for text in texts:
        # Beside a character that is a piece: two unknown ones are a single unknown piece, and must not be parted.
        places = [at for at in range(1, len(text)) if known & {text[at - 1], text[at]}]
        at = places[0] if places else 1
        found.append(f"(?<={_escaped(text[:at])})(?={_escaped(text[at:])})")
    if any(piece.type is PieceType.byte for piece in model.pieces):
        found.append("(?<=<)(?=0x[0-9A-F]{2}>)")
    return found


def _escaped(text: str) -> str:
    """For Oniguruma, in which ``re.escape``'s escapes of white space mean the same."""
    return re.escape(text)


def _decoder(model: SentenceModel) -> dict[str, Any]:
    """Spaces for U+2581, bytes joined to characters, and the space away that was put before the text."""
    steps: list[dict[str, Any]] = [_replace({"String": SPACE}, " "), {"type": "ByteFallback"}, {"type": "Fuse"}]
    if model.dummy_prefix:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": steps}
