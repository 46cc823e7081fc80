"""The seam's own checks of ``bpe``, ``wordpiece`` and ``unigram``."""

from __future__ import annotations

from lmgraft_subword.conformance import (
    TestBPE,
    TestBPEWithoutBytes,
    TestUnigram,
    TestUnigramWithoutBytes,
    TestWordPiece,
    TestWordPieceUncased,
)

__all__ = [
    "TestBPE",
    "TestBPEWithoutBytes",
    "TestUnigram",
    "TestUnigramWithoutBytes",
    "TestWordPiece",
    "TestWordPieceUncased",
]
