"""``toxicity`` and ``quality_classifier`` keep the contract of filters."""

from __future__ import annotations

from lmgraft_classifiers.conformance import (
    TestQuality,
    TestQualityForest,
    TestQualityOfChats,
    TestQualityStatistics,
    TestToxicityClassifier,
    TestToxicityOfChats,
    TestToxicityWords,
)

__all__ = [
    "TestQuality",
    "TestQualityForest",
    "TestQualityOfChats",
    "TestQualityStatistics",
    "TestToxicityClassifier",
    "TestToxicityOfChats",
    "TestToxicityWords",
]
