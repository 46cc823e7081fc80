"""Holds the merges to their contract: ``lmgraft plugins check lmgraft --part linear``."""

from __future__ import annotations

from typing import Any, ClassVar

from lmgraft.testing import MergeSuite

__all__ = ["TestLinear", "TestPassthrough", "TestPassthroughOfTwo", "TestSlerp", "TestTies", "TestTiesRescaled"]


class TestLinear(MergeSuite):
    component = "linear"
    models: ClassVar[int] = 3
    settings: ClassVar[dict[str, Any]] = {"weights": [0.5, 0.3, 0.2]}


class TestSlerp(MergeSuite):
    component = "slerp"
    models: ClassVar[int] = 2
    settings: ClassVar[dict[str, Any]] = {"gradients": {"self_attn": [0.0, 0.5, 1.0]}}


class TestTies(MergeSuite):
    component = "ties"
    models: ClassVar[int] = 3


class TestTiesRescaled(MergeSuite):
    component = "ties"
    models: ClassVar[int] = 2
    settings: ClassVar[dict[str, Any]] = {"density": 0.5, "rescale": True, "sign": "count", "base": 1}


class TestPassthrough(MergeSuite):
    component = "passthrough"
    settings: ClassVar[dict[str, Any]] = {"slices": ["0:24", "8:32"]}


class TestPassthroughOfTwo(MergeSuite):
    component = "passthrough"
    models: ClassVar[int] = 2
    settings: ClassVar[dict[str, Any]] = {"slices": ["0@0:20", "1@12:32"]}
