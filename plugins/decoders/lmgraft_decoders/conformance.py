"""Holds the decoders to the architectures' contract, each as its family's published models are made."""

from __future__ import annotations

from typing import Any, ClassVar

from lmgraft.testing import ArchitectureSuite

__all__ = ["TestBloom", "TestFalcon", "TestGpt2", "TestLlama", "TestMixtral"]


class TestLlama(ArchitectureSuite):
    component = "llama"
    settings: ClassVar[dict[str, Any]] = {"layers": 2, "hidden": 64, "heads": 4, "kv_heads": 2, "mlp": 96}


class TestGpt2(ArchitectureSuite):
    component = "gpt2"
    settings: ClassVar[dict[str, Any]] = {"layers": 2, "hidden": 64, "heads": 4, "mlp": 96}


class TestFalcon(ArchitectureSuite):
    component = "falcon"
    settings: ClassVar[dict[str, Any]] = {"layers": 2, "hidden": 64, "heads": 4, "mlp": 96}


class TestBloom(ArchitectureSuite):
    component = "bloom"
    settings: ClassVar[dict[str, Any]] = {"layers": 2, "hidden": 64, "heads": 4}


class TestMixtral(ArchitectureSuite):
    component = "mixtral"
    settings: ClassVar[dict[str, Any]] = {"layers": 2, "hidden": 64, "heads": 4, "mlp": 48, "experts": 4}
