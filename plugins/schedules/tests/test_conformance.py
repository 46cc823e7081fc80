"""The conformance kit on ``schedules``."""

from __future__ import annotations

from lmgraft_schedules.conformance import (
    TestConstant,
    TestCosine,
    TestCosineWithLongWarmup,
    TestExponentialDecay,
    TestStepDecay,
)

__all__ = ["TestConstant", "TestCosine", "TestCosineWithLongWarmup", "TestExponentialDecay", "TestStepDecay"]
