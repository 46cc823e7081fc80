"""The conformance kit on ``small_init`` and ``wang``."""

from __future__ import annotations

from typing import Any, ClassVar

from lmgraft.testing import InitializerSuite

__all__ = ["TestSmallInit", "TestWang", "TestWangThroughout"]


class TestSmallInit(InitializerSuite):
    component = "small_init"


class TestWang(InitializerSuite):
    component = "wang"


class TestWangThroughout(InitializerSuite):
    component = "wang"
    settings: ClassVar[dict[str, Any]] = {"others": "wang"}
