"""Holds ``vocabulary_rows`` to the merges' contract, once for each start of new rows."""

from __future__ import annotations

from typing import Any, ClassVar

from lmgraft.testing import MergeSuite

__all__ = ["TestVocabularyRows", "TestVocabularyRowsOfSubpieces"]


class TestVocabularyRows(MergeSuite):
    component = "vocabulary_rows"
    settings: ClassVar[dict[str, Any]] = {"scale": 1.0}


class TestVocabularyRowsOfSubpieces(MergeSuite):
    component = "vocabulary_rows"
    settings: ClassVar[dict[str, Any]] = {"rows": "subpieces"}
