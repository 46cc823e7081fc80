"""Holds ``lora`` to the adapters' contract, with frozen weights of every kind, and with dropout."""

from __future__ import annotations

from typing import Any, ClassVar

from lmgraft.testing import AdapterSuite

__all__ = ["TestLora", "TestLoraBfloat16", "TestLoraDropout", "TestLoraInGpt2", "TestLoraInLstm", "TestLoraInt8"]


class TestLora(AdapterSuite):
    component = "lora"
    settings: ClassVar[dict[str, Any]] = {"rank": 3}


class TestLoraBfloat16(AdapterSuite):
    component = "lora"
    settings: ClassVar[dict[str, Any]] = {"rank": 3, "base": "bfloat16"}
    start = 0.05  # what a model this narrow makes of weights that move by up to 1/256 of themselves


class TestLoraDropout(AdapterSuite):
    component = "lora"
    settings: ClassVar[dict[str, Any]] = {"rank": 3, "dropout": 0.3}


class TestLoraInt8(AdapterSuite):
    component = "lora"
    settings: ClassVar[dict[str, Any]] = {"rank": 3, "base": "int8"}
    start = 0.2  # what a model this narrow makes of weights that move by up to 1/254 of their row's largest


class TestLoraInGpt2(AdapterSuite):
    component = "lora"
    settings: ClassVar[dict[str, Any]] = {"rank": 2, "rslora": True, "targets": ["query", "value", "mlp_out"]}
    architecture = "gpt2"
    architecture_settings: ClassVar[dict[str, Any]] = {"layers": 2, "hidden": 16, "heads": 2, "context": 32}


class TestLoraInLstm(AdapterSuite):
    component = "lora"
    settings: ClassVar[dict[str, Any]] = {"rank": 2, "targets": ["other"]}
    architecture = "lstm"
    architecture_settings: ClassVar[dict[str, Any]] = {"layers": 2, "hidden": 16, "context": 32}
