"""The door's own checks of ``vocabulary_rows``."""

from __future__ import annotations

from lmgraft_vocabulary_rows.conformance import TestVocabularyRows, TestVocabularyRowsOfSubpieces

__all__ = ["TestVocabularyRows", "TestVocabularyRowsOfSubpieces"]
