"""The seam's own checks of ``byte_bpe``."""

from __future__ import annotations

from lmgraft_byte_bpe.conformance import TestByteBPE, TestByteBPEOfLlama3

__all__ = ["TestByteBPE", "TestByteBPEOfLlama3"]
