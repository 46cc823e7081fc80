"""Holds single and ddp to the layouts' contract."""

from __future__ import annotations

from typing import Any, ClassVar

from lmgraft.testing import ParallelismSuite

__all__ = ["TestDDP", "TestSingle"]


class TestSingle(ParallelismSuite):
    component = "single"


class TestDDP(ParallelismSuite):
    component = "ddp"
    settings: ClassVar[dict[str, Any]] = {"ranks": 1, "threads": 1}
    sizes = ({"ranks": 1}, {"ranks": 2})
