"""Holds llama and gpt2 to the architectures' contract."""

from __future__ import annotations

from typing import Any, ClassVar

from lmgraft.testing import ArchitectureSuite

__all__ = ["TestGpt2", "TestLlama"]


class TestLlama(ArchitectureSuite):
    component = "llama"
    settings: ClassVar[dict[str, Any]] = {"layers": 2, "hidden": 64, "heads": 4, "kv_heads": 2, "mlp": 96}


class TestGpt2(ArchitectureSuite):
    component = "gpt2"
    settings: ClassVar[dict[str, Any]] = {"layers": 2, "hidden": 64, "heads": 4, "mlp": 96}
