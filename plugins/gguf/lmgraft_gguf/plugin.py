"""The exporter ``gguf``: its name and its settings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl

__all__ = ["GGUFConfig", "Type", "lmgraft_exporter"]


class Type(Enum):
    """What weights are written as, in llama.cpp's words. Norms, biases and tables of positions stay float32."""

    f32 = "f32"
    """32 bits a weight: as the model is."""
    f16 = "f16"
    """16 bits a weight."""
    q8_0 = "q8_0"
    """8.5 bits a weight: blocks of 32 whole numbers, each with a scale."""
    q4_0 = "q4_0"
    """4.5 bits a weight; the head, which all text passes through, has 8.5."""


@dataclass
class GGUFConfig(ComponentConfig):
    """One file, ``model-TYPE.gguf``, with weights, tokenizer and chat template."""

    asks: ClassVar[tuple[str, ...]] = ("name", "license", "languages")

    type: Type = Type.f16
    """What weights are written as: f32, f16, q8_0 or q4_0."""


@hookimpl
def lmgraft_exporter() -> list[Component[Any]]:
    return [
        Component(
            name="gguf",
            target="lmgraft_gguf.exporter:GGUF",
            config=GGUFConfig,
            summary="One file for llama.cpp, tokenizer and chat template inside",
            requires=("gguf>=0.17",),
        )
    ]
