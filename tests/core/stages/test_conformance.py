"""Core's own kinds of stage under the suite that third parties' are held to."""

from __future__ import annotations

import pytest
from lmgraft.stages import conformance
from lmgraft.stages.conformance import TestCorpus, TestMerge, TestTokenizer, TestTokens, TestTokensOfRows

__all__ = [
    "TestCorpus",
    "TestEvaluate",
    "TestMerge",
    "TestScore",
    "TestTokenizer",
    "TestTokens",
    "TestTokensOfRows",
    "TestTrain",
]


@pytest.mark.slow
class TestTrain(conformance.TestTrain):
    pass


@pytest.mark.slow
class TestScore(conformance.TestScore):
    pass


@pytest.mark.slow
class TestEvaluate(conformance.TestEvaluate):
    pass
