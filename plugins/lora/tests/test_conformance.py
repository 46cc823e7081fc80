"""The conformance kit on ``lora``."""

from __future__ import annotations

from lmgraft_lora.conformance import (
    TestLora,
    TestLoraBfloat16,
    TestLoraDropout,
    TestLoraInGpt2,
    TestLoraInLstm,
    TestLoraInt8,
)

__all__ = ["TestLora", "TestLoraBfloat16", "TestLoraDropout", "TestLoraInGpt2", "TestLoraInLstm", "TestLoraInt8"]
