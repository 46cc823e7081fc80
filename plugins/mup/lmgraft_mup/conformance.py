"""The conformance kit on ``mup``: at the base's width, narrower and wider."""

from __future__ import annotations

from typing import Any, ClassVar

from lmgraft.testing import InitializerSuite

__all__ = ["TestMup", "TestMupFromZero", "TestMupOfAWideBase"]


class TestMup(InitializerSuite):
    component = "mup"


class TestMupOfAWideBase(InitializerSuite):
    component = "mup"
    settings: ClassVar[dict[str, Any]] = {"base_hidden": 8, "base_head_dim": 4, "scale_residual": False}


class TestMupFromZero(InitializerSuite):
    component = "mup"
    settings: ClassVar[dict[str, Any]] = {"zero_head": True, "zero_query": True}
