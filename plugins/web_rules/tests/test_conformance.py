"""The four keep the contract of filters."""

from __future__ import annotations

from lmgraft_web_rules.conformance import (
    TestC4,
    TestC4WithoutPunctuation,
    TestFineweb,
    TestGopherQuality,
    TestGopherRepetition,
)

__all__ = ["TestC4", "TestC4WithoutPunctuation", "TestFineweb", "TestGopherQuality", "TestGopherRepetition"]
