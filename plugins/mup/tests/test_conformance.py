"""The conformance kit on ``mup``."""

from __future__ import annotations

from lmgraft_mup.conformance import TestMup, TestMupFromZero, TestMupOfAWideBase

__all__ = ["TestMup", "TestMupFromZero", "TestMupOfAWideBase"]
