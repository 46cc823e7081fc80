"""The conformance kit on both decoders, and on the switches that change who sees whom or what a file holds."""

from __future__ import annotations

from lmgraft_decoders.conformance import TestGpt2, TestLlama

__all__ = ["TestGpt2", "TestLlama", "TestOtherLlama"]


class TestOtherLlama(TestLlama):
    settings = {**TestLlama.settings, "norm": "none", "tied": True, "kv_heads": 1, "context": 20}  # noqa: RUF012
