"""Holds the schedules to their contract: with warm-ups of both kinds, where the bare suite sees none."""

from __future__ import annotations

from typing import Any, ClassVar

from lmgraft.testing import ScheduleSuite

__all__ = ["TestConstant", "TestCosine", "TestCosineWithLongWarmup", "TestExponentialDecay", "TestStepDecay"]


class TestConstant(ScheduleSuite):
    component = "constant"
    settings: ClassVar[dict[str, Any]] = {"warmup_steps": 5}


class TestCosine(ScheduleSuite):
    component = "cosine"
    settings: ClassVar[dict[str, Any]] = {"warmup_fraction": 0.1, "final": 0.0}


class TestCosineWithLongWarmup(ScheduleSuite):
    component = "cosine"
    settings: ClassVar[dict[str, Any]] = {"warmup_steps": 100}


class TestExponentialDecay(ScheduleSuite):
    component = "exponential_decay"
    settings: ClassVar[dict[str, Any]] = {"warmup_steps": 5, "half_life": 20.0, "final": 0.1}


class TestStepDecay(ScheduleSuite):
    component = "step_decay"
    settings: ClassVar[dict[str, Any]] = {"warmup_fraction": 0.2, "every": 7}
