"""The conformance kit on ``dpo``."""

from __future__ import annotations

from lmgraft_dpo.conformance import TestDPO, TestIPO, TestSmoothedDPO

__all__ = ["TestDPO", "TestIPO", "TestSmoothedDPO"]
