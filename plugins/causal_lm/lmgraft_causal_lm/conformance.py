"""Holds ``causal_lm`` to the objectives' contract: plain, and with z-loss."""

from __future__ import annotations

from typing import Any, ClassVar

from lmgraft.testing import ObjectiveSuite

__all__ = ["TestCausalLM", "TestCausalLMWithZLoss"]


class TestCausalLM(ObjectiveSuite):
    component = "causal_lm"


class TestCausalLMWithZLoss(ObjectiveSuite):
    component = "causal_lm"
    settings: ClassVar[dict[str, Any]] = {"z_loss": 1e-2}
