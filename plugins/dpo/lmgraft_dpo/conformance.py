"""Holds ``dpo`` to the objectives' contract: both losses, and smoothed."""

from __future__ import annotations

from typing import Any, ClassVar

from lmgraft.testing import ObjectiveSuite

__all__ = ["TestDPO", "TestIPO", "TestSmoothedDPO"]


class TestDPO(ObjectiveSuite):
    component = "dpo"


class TestIPO(ObjectiveSuite):
    component = "dpo"
    settings: ClassVar[dict[str, Any]] = {"loss": "ipo"}


class TestSmoothedDPO(ObjectiveSuite):
    component = "dpo"
    settings: ClassVar[dict[str, Any]] = {"label_smoothing": 0.1, "template": "chatml"}
