"""Holds ``byte_bpe`` to the tokenizers' contract."""

from __future__ import annotations

from typing import Any, ClassVar

from lmgraft.testing import TokenizerSuite

__all__ = ["TestByteBPE", "TestByteBPEOfLlama3"]


class TestByteBPE(TokenizerSuite):
    component = "byte_bpe"
    settings: ClassVar[dict[str, Any]] = {"vocab_size": 400}


class TestByteBPEOfLlama3(TokenizerSuite):
    component = "byte_bpe"
    settings: ClassVar[dict[str, Any]] = {
        "vocab_size": 400,
        "pattern": "llama3",
        "special_tokens": ["<|im_start|>", "<|im_end|>"],
    }
