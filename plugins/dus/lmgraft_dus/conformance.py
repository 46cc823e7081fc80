"""Holds ``dus`` to the merges' contract: ``lmgraft plugins check lmgraft --part dus``."""

from __future__ import annotations

from typing import Any, ClassVar

from lmgraft.testing import MergeSuite

__all__ = ["TestDUS"]


class TestDUS(MergeSuite):
    component = "dus"
    settings: ClassVar[dict[str, Any]] = {"drop": 8}
