"""``minhash`` keeps the contract of filters."""

from __future__ import annotations

from lmgraft_minhash.conformance import TestMinhash, TestMinhashOfCharacters, TestMinhashWithinGroups

__all__ = ["TestMinhash", "TestMinhashOfCharacters", "TestMinhashWithinGroups"]
