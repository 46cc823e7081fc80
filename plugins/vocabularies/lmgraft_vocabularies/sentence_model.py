"""A SentencePiece model file: its pieces and what it does to text before it is cut.

Source: sentencepiece_model.proto of google/sentencepiece, whose field numbers and defaults these are.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

from lmgraft.errors import Problem, UserError

from lmgraft_vocabularies.wire import WireError, bytes_field, fields, float_field, varint_field

__all__ = [
    "MOST_PIECES",
    "SPACE",
    "Kind",
    "Piece",
    "PieceType",
    "SentenceModel",
    "model_bytes",
    "piece_bytes",
    "read_model",
]

#: Stands for a space in pieces.
SPACE = "\u2581"

#: No vocabulary is larger (the largest known has about a million); a file of more pieces is not read on.
MOST_PIECES = 4_000_000
#: The longest piece, in characters: sentencepiece learns 16, and the work on one grows with its square.
LONGEST_PIECE = 1024
#: No model file is larger: a few megabytes are usual.
MOST_BYTES = 512 << 20


class PieceType(IntEnum):
    """What a piece is for."""

    normal = 1
    unknown = 2
    control = 3
    user_defined = 4
    unused = 5
    byte = 6


class Kind(IntEnum):
    """How a model cuts text."""

    unigram = 1
    bpe = 2
    word = 3
    char = 4


@dataclass(frozen=True, slots=True)
class Piece:
    """One entry of the vocabulary; its id is its place."""

    text: str
    score: float = 0.0
    type: PieceType = PieceType.normal


@dataclass
class SentenceModel:
    """What a model file says."""

    path: Path
    data: bytes
    pieces: list[Piece] = field(default_factory=list)
    kind: Kind = Kind.unigram
    byte_fallback: bool = False
    space_is_suffix: bool = False
    unknown_piece: str = "<unk>"
    begin_piece: str = "<s>"
    end_piece: str = "</s>"
    pad_piece: str = "<pad>"
    charsmap: bytes = b""
    dummy_prefix: bool = True
    remove_extra_spaces: bool = True
    escape_spaces: bool = True

    def named(self, text: str) -> bool:
        """Whether ``text`` is a control piece."""
        return any(piece.text == text and piece.type is PieceType.control for piece in self.pieces)


def read_model(path: Path) -> SentenceModel:
    """The model in ``path``.

    Raises :class:`~lmgraft.errors.UserError` where the file is missing, or holds no model, or a part of one.
    """
    data = _content(path)
    model = SentenceModel(path, data)
    seen = set()
    try:
        for number, value in fields(data):
            seen.add(number)
            if number == 1:
                _check_count(len(model.pieces))
                model.pieces.append(_piece(_message(value), len(model.pieces)))
            elif number == 2:
                _read_trainer(model, _message(value))
            elif number == 3:
                _read_normalizer(model, _message(value))
    except (WireError, UnicodeDecodeError) as error:
        raise UserError(_no_model(path, data, str(error))) from error
    _check_whole(model, seen)
    return model


def piece_bytes(piece: Piece) -> bytes:
    """A piece as a field of the file: written behind a model's bytes, it is that model's next piece."""
    message = bytes_field(1, piece.text.encode()) + float_field(2, piece.score)
    if piece.type is not PieceType.normal:
        message += varint_field(3, int(piece.type))
    return bytes_field(1, message)


def model_bytes(pieces: Iterable[Piece], kind: Kind, *, byte_fallback: bool, remove_extra_spaces: bool) -> bytes:
    """A model file with these pieces, which normalises nothing else."""
    trainer = varint_field(3, int(kind)) + varint_field(35, int(byte_fallback))
    normalizer = bytes_field(1, b"identity") + varint_field(4, int(remove_extra_spaces))
    return b"".join(map(piece_bytes, pieces)) + bytes_field(2, trainer) + bytes_field(3, normalizer)


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            cause = f"it has {path.stat().st_size:,} bytes; a SentencePiece model has a few million"
            raise UserError(Problem(f"{path} is no SentencePiece model", cause, "name the tokenizer's own file"))
        return path.read_bytes()
    except OSError as error:
        remedy = "give the path of a SentencePiece .model or of a tokenizer.json"
        raise UserError(Problem(f"{path} cannot be read", error.strerror or str(error), remedy)) from error


def _no_model(path: Path, data: bytes, why: str) -> Problem:
    head = data[:256]
    if head.startswith(b"version https://git-lfs"):
        cause = "it is a pointer of git-lfs, and not the file itself"
        return Problem(f"{path} is no SentencePiece model", cause, "git lfs pull, where the file came from")
    if head.lstrip()[:1] in (b"<", b"{") or _is_text(head):
        first = head.split(b"\n")[0].decode("utf-8", "replace")[:40]
        cause = f"it is text and begins with {first!r}; tiktoken's rank files end in .model too, and are not read"
        return Problem(
            f"{path} is no SentencePiece model", cause, "give the .model of SentencePiece, or tokenizer.json"
        )
    return Problem(f"{path} is no whole SentencePiece model", why, "copy or download the file again")


def _is_text(head: bytes) -> bool:
    return bool(head) and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)


def _check_count(count: int) -> None:
    if count >= MOST_PIECES:
        raise WireError(f"it has more than {MOST_PIECES:,} pieces")


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise WireError("a number stands where a message belongs")
    return value


def _piece(data: bytes, number: int) -> Piece:
    text, score, kind = "", 0.0, PieceType.normal
    for name, value in fields(data):
        if name == 1:
            text = _message(value).decode()
        elif name == 2:
            score = _float(value)
        elif name == 3:
            kind = _known(PieceType, value, f"piece {number}")
    if not text or len(text) > LONGEST_PIECE:
        raise WireError(f"piece {number} has {len(text):,} characters")
    if not math.isfinite(score):
        raise WireError(f"piece {number} has the score {score}")
    return Piece(text, score, kind)


def _float(value: int | bytes) -> float:
    if isinstance(value, int) or len(value) != 4:
        raise WireError("a score is no float32")
    return float(struct.unpack("<f", value)[0])


def _known(names: Any, value: int | bytes, where: str) -> Any:
    try:
        return names(value)
    except ValueError as error:
        raise WireError(f"{where} is of the unknown type {value!r}") from error


def _read_trainer(model: SentenceModel, data: bytes) -> None:
    texts = {45: "unknown_piece", 46: "begin_piece", 47: "end_piece", 48: "pad_piece"}
    for number, value in fields(data):
        if number == 3:
            model.kind = _known(Kind, value, "the model")
        elif number == 24:
            model.space_is_suffix = bool(value)
        elif number == 35:
            model.byte_fallback = bool(value)
        elif number in texts:
            setattr(model, texts[number], _message(value).decode())


def _read_normalizer(model: SentenceModel, data: bytes) -> None:
    flags = {3: "dummy_prefix", 4: "remove_extra_spaces", 5: "escape_spaces"}
    for number, value in fields(data):
        if number == 2:
            model.charsmap = _message(value)
        elif number in flags:
            setattr(model, flags[number], bool(value))


def _check_whole(model: SentenceModel, seen: set[int]) -> None:
    path, pieces = model.path, model.pieces
    if not pieces:
        raise UserError(_no_model(path, model.data, "it holds no piece"))
    if not {2, 3} <= seen:  # both stand behind the pieces: a file that was cut between two has lost them
        raise UserError(_no_model(path, model.data, "it ends before the description of the model and its normalizer"))
    if len({piece.text for piece in pieces}) < len(pieces):
        raise UserError(_no_model(path, model.data, "a piece stands in it twice"))
    unknown = [piece for piece in pieces if piece.type is PieceType.unknown]
    if len(unknown) != 1:
        raise UserError(_no_model(path, model.data, f"it has {len(unknown)} pieces for unknown text, and needs one"))
    model.unknown_piece = unknown[0].text
    count = sum(piece.type is PieceType.byte for piece in pieces)
    if model.byte_fallback and count != 256:
        raise UserError(_no_model(path, model.data, f"it has {count} pieces for bytes, and falls back to 256"))
