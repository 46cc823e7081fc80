"""Two vocabularies side by side: which row of the old one a token has, and what the old one makes of a new token.

Tokens are matched by their piece, the string in ``tokenizer.json``, and not by their id: rows follow their tokens where
ids have moved. A token of the old tokenizer whose id lies beyond the model's rows has no row, so it counts as new.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmgraft.artifacts import tokenizer as saved
from lmgraft.errors import Problem, UserError
from lmgraft.seams.tokenizer import first_id
from tokenizers import Tokenizer

__all__ = ["ABSENT", "Exchange", "OldTokenizer", "exchange"]

#: In place of an old row: there is none.
ABSENT = -1


@dataclass(frozen=True)
class Exchange:
    """The new vocabulary in terms of the old one."""

    rows: list[int]
    """For each new id the old row that it keeps, or :data:`ABSENT`."""
    moved: dict[int, int]
    """Old id -> new id of the same token."""
    dropped: list[str]
    """Pieces with a row that the new vocabulary lacks, by old id."""
    first_id: int
    """What documents begin with, of the new tokenizer."""
    end_id: int
    """Of the new tokenizer."""
    pad_id: int
    """Of the new tokenizer."""
    old: OldTokenizer
    """The model's own."""
    pieces: dict[int, str]
    """New id -> piece, of the tokens that are no special ones."""
    old_rows: int
    """Rows of the model."""

    def subpieces(self, index: int) -> list[int]:
        """Old rows of the pieces that the old tokenizer makes of a new token; empty where it makes none of it.

        The old tokenizer's model is applied to the token's piece itself, so that tokens of a part of a character have
        sub-pieces too.
        """
        piece = self.pieces.get(index)
        return [] if piece is None else [row for row in self.old.cut(piece) if row < self.old_rows]


def exchange(model: Path, rows: int, tokenizer: Path) -> Exchange:
    """Reads both tokenizers.

    :param rows: rows of the model's embedding.
    :raises UserError: one of them cannot be read, or is kept in a form of its own.
    """
    loaded = saved.load(tokenizer)
    old, new = _read(model), _read(tokenizer)
    if 1 + max(new.get_vocab().values(), default=-1) != loaded.vocab_size:
        cause = "the part that reads it has another vocabulary than the file, and tokens are matched by their pieces"
        fact = f"{tokenizer / saved.FILE} does not hold the tokenizer's vocabulary"
        raise UserError(Problem(fact, cause, "take a tokenizer that the library tokenizers reads"))
    before = {piece: index for piece, index in old.get_vocab().items() if index < rows}
    after = new.get_vocab()
    if not after.keys() & before.keys():
        cause = f"no piece of {tokenizer} is a piece of {model}: one may be byte-level and the other not"
        fact = "the two tokenizers have no token in common"
        raise UserError(Problem(fact, cause, "take a tokenizer that was extended from the model's own"))
    kept = [ABSENT] * loaded.vocab_size
    moved = {}
    for piece, index in after.items():
        kept[index] = before.get(piece, ABSENT)
        if piece in before:
            moved[before[piece]] = index
    special = {index for index, token in new.get_added_tokens_decoder().items() if token.special}
    return Exchange(
        rows=kept,
        moved=moved,
        dropped=[piece for piece, _ in sorted(before.items(), key=lambda item: item[1]) if piece not in after],
        first_id=first_id(loaded),
        end_id=loaded.end_id,
        pad_id=loaded.pad_id,
        old=OldTokenizer(old),
        pieces={index: piece for piece, index in after.items() if index not in special},
        old_rows=rows,
    )


def _read(folder: Path) -> Tokenizer:
    path = folder / saved.FILE
    if not path.is_file():
        cause = "a token is told by its piece there, so that old tokens keep their rows"
        remedy = "put the tokenizer.json beside it; transformers' save_pretrained of the tokenizer writes it"
        raise UserError(Problem(f"{path} is missing", cause, remedy))
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        remedy = "take a tokenizer.json that the library tokenizers reads"
        raise UserError(Problem(f"{path} cannot be read", str(error), remedy)) from error


class OldTokenizer:
    """What the model's own tokenizer makes of a piece of another vocabulary."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
        self._prefix: str = model.get("continuing_subword_prefix") or ""
        unknown = model.get("unk_token")
        self._unknown = {model.get("unk_id"), unknown if unknown is None else tokenizer.token_to_id(unknown)}

    def cut(self, piece: str) -> Iterator[int]:
        """Ids of its pieces, without the unknown token."""
        # WordPiece: a piece that goes on within a word is spelt ##ing, and begins with one that does.
        inner = bool(self._prefix) and piece.startswith(self._prefix) and len(piece) > len(self._prefix)
        try:
            found = self._tokenizer.model.tokenize(piece.removeprefix(self._prefix) if inner else piece)
        except Exception:  # a unigram model without an unknown token, and a character that it lacks
            return
        for number, token in enumerate(found):
            within = self._tokenizer.token_to_id(self._prefix + token.value) if inner and not number else None
            index = token.id if within is None else within
            if index not in self._unknown:
                yield index
