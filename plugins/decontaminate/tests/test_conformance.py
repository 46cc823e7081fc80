"""``decontaminate`` keeps the contract of filters."""

from __future__ import annotations

from lmgraft_decontaminate.conformance import TestDecontaminate, TestDecontaminateCuts, TestDecontaminateRarePhrases

__all__ = ["TestDecontaminate", "TestDecontaminateCuts", "TestDecontaminateRarePhrases"]
