"""``exact_substring`` keeps the contract of filters."""

from __future__ import annotations

from lmgraft_exact_substring.conformance import TestExactSubstring, TestExactSubstringThatDrops

__all__ = ["TestExactSubstring", "TestExactSubstringThatDrops"]
