"""Holds ``bpe``, ``wordpiece`` and ``unigram`` to the tokenizers' contract."""

from __future__ import annotations

from typing import Any, ClassVar

from lmgraft.testing import TokenizerSuite

__all__ = [
    "TestBPE",
    "TestBPEWithoutBytes",
    "TestUnigram",
    "TestUnigramWithoutBytes",
    "TestWordPiece",
    "TestWordPieceUncased",
]


class TestBPE(TokenizerSuite):
    component = "bpe"
    settings: ClassVar[dict[str, Any]] = {"vocab_size": 700, "special_tokens": ["<|im_start|>"]}


class TestBPEWithoutBytes(TokenizerSuite):
    component = "bpe"
    settings: ClassVar[dict[str, Any]] = {"vocab_size": 500, "byte_fallback": False, "chat_template": "chatml"}
    lossless = False


class TestUnigram(TokenizerSuite):
    component = "unigram"
    settings: ClassVar[dict[str, Any]] = {"vocab_size": 700, "special_tokens": ["<|im_start|>"]}


class TestUnigramWithoutBytes(TokenizerSuite):
    component = "unigram"
    settings: ClassVar[dict[str, Any]] = {"vocab_size": 500, "byte_fallback": False}
    lossless = False


class TestWordPiece(TokenizerSuite):
    component = "wordpiece"
    settings: ClassVar[dict[str, Any]] = {"vocab_size": 800, "chat_template": "solar"}
    lossless = False


class TestWordPieceUncased(TokenizerSuite):
    component = "wordpiece"
    settings: ClassVar[dict[str, Any]] = {"vocab_size": 800, "lowercase": True}
    lossless = False
