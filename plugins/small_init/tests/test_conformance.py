"""The conformance kit on ``small_init`` and ``wang``."""

from __future__ import annotations

from lmgraft_small_init.conformance import TestSmallInit, TestWang, TestWangThroughout

__all__ = ["TestSmallInit", "TestWang", "TestWangThroughout"]
