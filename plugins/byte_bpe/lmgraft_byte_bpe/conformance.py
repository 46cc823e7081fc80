"""Holds ``byte_bpe`` to the tokenizers' contract."""

from __future__ import annotations

from typing import Any, ClassVar

from lmgraft.testing import TokenizerSuite

__all__ = ["TestByteBPE"]


class TestByteBPE(TokenizerSuite):
    component = "byte_bpe"
    settings: ClassVar[dict[str, Any]] = {"vocab_size": 400}
