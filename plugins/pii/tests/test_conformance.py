"""``pii`` keeps the contract of filters."""

from __future__ import annotations

from lmgraft_pii.conformance import TestPii, TestPiiEveryKind, TestPiiReports

__all__ = ["TestPii", "TestPiiEveryKind", "TestPiiReports"]
