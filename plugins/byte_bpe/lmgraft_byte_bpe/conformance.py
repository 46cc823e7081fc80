"""Holds ``byte_bpe`` to the tokenizers' contract."""

from __future__ import annotations

from lmgraft.testing import TokenizerSuite

__all__ = ["TestByteBPE"]


class TestByteBPE(TokenizerSuite):
    component = "byte_bpe"
    settings = {"vocab_size": 400}
