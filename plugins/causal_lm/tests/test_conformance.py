"""The conformance kit on ``causal_lm``."""

from __future__ import annotations

from lmgraft_causal_lm.conformance import TestCausalLM, TestCausalLMWithZLoss

__all__ = ["TestCausalLM", "TestCausalLMWithZLoss"]
