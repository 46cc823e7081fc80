"""The door's own checks of the merges."""

from __future__ import annotations

from lmgraft_merges.conformance import (
    TestLinear,
    TestPassthrough,
    TestPassthroughOfTwo,
    TestSlerp,
    TestTies,
    TestTiesRescaled,
)

__all__ = ["TestLinear", "TestPassthrough", "TestPassthroughOfTwo", "TestSlerp", "TestTies", "TestTiesRescaled"]
