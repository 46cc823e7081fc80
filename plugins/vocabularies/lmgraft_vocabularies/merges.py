"""Merges in order, for pieces that have scores.

SentencePiece's BPE merges, of all neighbours whose joint text is a piece, those with the highest score, and of equal
ones the leftmost (bpe_model.cc). tokenizer.json holds pairs in the order in which they are merged. So a piece gives one
merge for each place at which it can be cut into two that may stand in a text, all of them behind those of pieces with
higher scores. This is exact where scores differ. Where they are equal, "leftmost" cannot be said by an order of pairs:
see :func:`ranked`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from lmgraft_vocabularies.sentence_model import Piece, PieceType

__all__ = ["merges_of", "ranked", "splits"]


def merges_of(pieces: Sequence[Piece]) -> list[tuple[str, str]]:
    """The merges of a BPE model's pieces, first ones first."""
    normal = [piece for piece in pieces if piece.type is PieceType.normal]
    known = {piece.text for piece in normal}
    return [pair for text in ranked(normal) for pair in splits(text, known)]


def ranked(pieces: Iterable[Piece]) -> list[str]:
    """Pieces of two characters and more by falling score.

    Of equal scores longer ones come first, then those with lower ids: a piece that has begun to grow goes on growing
    before another begins to its right, which is what taking the leftmost does to runs of spaces.
    """
    order = [(-piece.score, -len(piece.text), place, piece.text) for place, piece in enumerate(pieces)]
    return [text for _, _, _, text in sorted(order) if len(text) > 1]


def splits(text: str, known: Collection[str]) -> list[tuple[str, str]]:
    """The pairs of known pieces that make up ``text``, the one with the longest left part first."""
    cuts = range(len(text) - 1, 0, -1)
    return [(text[:cut], text[cut:]) for cut in cuts if text[:cut] in known and text[cut:] in known]
