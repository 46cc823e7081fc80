"""The conformance kit on the decoders, and on the switches that change who sees whom or what a file holds."""

from __future__ import annotations

from lmgraft_decoders.conformance import TestBloom, TestFalcon, TestGpt2, TestLlama, TestMixtral

__all__ = [
    "TestBloom",
    "TestFalcon",
    "TestFalcon40",
    "TestGpt2",
    "TestLlama",
    "TestMistral",
    "TestMixtral",
    "TestOtherLlama",
    "TestQwen2",
]


class TestOtherLlama(TestLlama):
    settings = {**TestLlama.settings, "norm": "none", "tied": True, "kv_heads": 1, "context": 20}  # noqa: RUF012


class TestMistral(TestLlama):
    settings = {**TestLlama.settings, "family": "mistral", "window": 5, "head_dim": 24}  # noqa: RUF012


class TestQwen2(TestLlama):
    settings = {**TestLlama.settings, "family": "qwen2", "qkv_bias": True, "window": 6}  # noqa: RUF012


class TestFalcon40(TestFalcon):
    settings = {**TestFalcon.settings, "kv_heads": 2, "new_decoder": True, "shared_norm": False, "bias": True}  # noqa: RUF012
