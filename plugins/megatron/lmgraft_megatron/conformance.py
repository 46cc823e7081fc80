"""Holds megatron to the layouts' contract."""

from __future__ import annotations

from typing import Any, ClassVar

from lmgraft.testing import ParallelismSuite

__all__ = ["TestMegatron"]


class TestMegatron(ParallelismSuite):
    component = "megatron"
    settings: ClassVar[dict[str, Any]] = {"threads": 1}
    sizes = ({"tensor": 2},)
