"""Bytes of a piece, by the kind of tokenizer."""

from __future__ import annotations

from typing import Any

import pytest
from lmgraft.artifacts._token_bytes import piece_measure
from lmgraft.errors import UserError

META = {"pre_tokenizer": {"type": "Metaspace"}, "decoder": {"type": "Metaspace"}}
LLAMA = {"decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}}
REPLACED = {
    "decoder": {
        "type": "Sequence",
        "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "Fuse"}],
    }
}
BERT = {
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "model": {"type": "WordPiece", "continuing_subword_prefix": "##"},
    "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
}


def test_byte_level_pieces_are_their_characters() -> None:
    measure = piece_measure({"pre_tokenizer": {"type": "ByteLevel"}, "decoder": {"type": "ByteLevel"}})
    assert measure("\u0120the") == 4


@pytest.mark.parametrize("content", [META, LLAMA, REPLACED], ids=["metaspace", "llama", "replaced"])
def test_sentencepiece(content: dict[str, Any]) -> None:
    measure = piece_measure(content)
    assert [measure(piece) for piece in ("\u2581the", "\u6f22", "<0x0A>", "<0x0a>")] == [4, 3, 1, 6]


def test_wordpiece_counts_the_space_that_decoding_writes() -> None:
    measure = piece_measure(BERT)
    assert [measure(piece) for piece in ("the", "##ing", "\u6f22", "##", ".", "-", "##.")] == [4, 3, 4, 3, 1, 2, 1]
    bare = piece_measure({"model": {"type": "WordPiece", "continuing_subword_prefix": "@@"}})
    assert [bare(piece) for piece in ("the", "@@ing", ".")] == [4, 3, 2]


def test_other_kinds_cannot_be_told() -> None:
    with pytest.raises(UserError) as caught:
        piece_measure({"pre_tokenizer": {"type": "Whitespace"}, "model": {"type": "WordLevel"}})
    assert len(str(caught.value).splitlines()) == 3
