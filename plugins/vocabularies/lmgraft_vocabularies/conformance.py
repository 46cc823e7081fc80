"""Holds ``pretrained`` and ``extended`` to the tokenizers' contract, on vocabularies that are made here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from lmgraft.testing import TokenizerSuite
from lmgraft.testing.inputs import texts
from lmgraft.testing.outcome import NotApplicable

from lmgraft_vocabularies.sentence_model import Kind, Piece, PieceType, model_bytes

__all__ = [
    "TestExtendedByteLevel",
    "TestExtendedSentencePiece",
    "TestPretrainedByteLevel",
    "TestPretrainedSentencePiece",
    "byte_level_file",
    "sentence_piece_file",
]


class _LearnsNothing(TokenizerSuite):
    """A part that reads files has one vocabulary, whatever it is trained on."""

    def test_fingerprint_follows_the_vocabulary(self) -> None:
        """the same files have the same fingerprint"""
        first, again = self._trained("first"), self._trained("again")
        remedy = "digest what decides ids and nothing else"
        self.require(first.fingerprint() == again.fingerprint(), f"{self.name} has two fingerprints", "", remedy)


class TestPretrainedByteLevel(_LearnsNothing):
    component = "pretrained"

    def prepare(self) -> Mapping[str, Any]:
        return {"path": str(byte_level_file(self.folder))}


class TestPretrainedSentencePiece(_LearnsNothing):
    """A BPE model that falls back to bytes. It puts a space before each text, which has one byte more therefore."""

    component = "pretrained"

    def prepare(self) -> Mapping[str, Any]:
        return {"path": str(sentence_piece_file(self.folder / "base.model"))}

    def test_token_bytes(self) -> None:
        """not asked: the space that it puts before each text is a byte that the text does not have"""
        raise NotApplicable("it puts a space before each text")


class TestExtendedByteLevel(TokenizerSuite):
    component = "extended"
    settings: ClassVar[Mapping[str, Any]] = {"new_tokens": 60}

    def base(self) -> Path:
        return _saved(byte_level_file(self.folder), self.folder / "base")


class TestExtendedSentencePiece(_LearnsNothing):
    component = "extended"

    def prepare(self) -> Mapping[str, Any]:
        donor = sentence_piece_file(self.folder / "donor.model", "漢字 漢字語 привет дом öğretmen")
        return {"pieces": str(donor)}

    def base(self) -> Path:
        return _saved(sentence_piece_file(self.folder / "base.model"), self.folder / "base")

    def test_token_bytes(self) -> None:
        """not asked: the space that it puts before each text is a byte that the text does not have"""
        raise NotApplicable("it puts a space before each text")


def _saved(path: Path, folder: Path) -> Path:
    from lmgraft_vocabularies.plugin import PretrainedConfig
    from lmgraft_vocabularies.pretrained import Pretrained

    part = Pretrained(PretrainedConfig(path=str(path)))
    part.train(())
    part.save(folder)
    return folder


def byte_level_file(folder: Path) -> Path:
    """A tokenizer.json with GPT-2's pattern and a few merges."""
    from lmgraft.artifacts.tokenizer import library_threads
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    with library_threads():
        tokenizer.train_from_iterator(texts(60, seed=3), trainer)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(tokenizer.to_str())), encoding="utf-8")
    return path


def sentence_piece_file(path: Path, text: str = "the cat sat on the mat and that is that") -> Path:
    """A BPE model whose pieces are beginnings of the words of ``text``."""
    pieces = [Piece("<unk>", 0.0, PieceType.unknown)]
    pieces += [Piece(token, 0.0, PieceType.control) for token in ("<s>", "</s>")]
    pieces += [Piece(f"<0x{byte:02X}>", 0.0, PieceType.byte) for byte in range(256)]
    words = ["\u2581" + word for word in text.split()]
    merged = [word[:end] for word in words for end in range(2, len(word) + 1)]
    letters = sorted({letter for word in words for letter in word})
    scores = enumerate(dict.fromkeys([*merged, *letters]))
    pieces += [Piece(piece, -1.0 - number) for number, piece in scores]
    path.write_bytes(model_bytes(pieces, Kind.bpe, byte_fallback=True, remove_extra_spaces=False))
    return path
