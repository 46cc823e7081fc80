"""The seam's own checks of ``pretrained`` and ``extended``."""

from __future__ import annotations

from lmgraft_vocabularies.conformance import (
    TestExtendedByteLevel,
    TestExtendedSentencePiece,
    TestPretrainedByteLevel,
    TestPretrainedSentencePiece,
)

__all__ = [
    "TestExtendedByteLevel",
    "TestExtendedSentencePiece",
    "TestPretrainedByteLevel",
    "TestPretrainedSentencePiece",
]
