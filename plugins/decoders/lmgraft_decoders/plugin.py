"""The architectures ``llama``, ``gpt2``, ``falcon``, ``bloom`` and ``mixtral``: their names; their settings lie beside
this module, a family each."""

from __future__ import annotations

from typing import Any

from lmgraft.component import Component
from lmgraft.hookspecs import hookimpl

from lmgraft_decoders.config_bloom import BloomConfig
from lmgraft_decoders.config_checks import LayerNorm, RmsNorm
from lmgraft_decoders.config_falcon import FalconConfig
from lmgraft_decoders.config_gpt2 import Gpt2Config
from lmgraft_decoders.config_llama import Family, LlamaConfig
from lmgraft_decoders.config_mixtral import MixtralConfig
from lmgraft_decoders.config_rope import Stretch, StretchKind

__all__ = [
    "BloomConfig",
    "FalconConfig",
    "Family",
    "Gpt2Config",
    "LayerNorm",
    "LlamaConfig",
    "MixtralConfig",
    "RmsNorm",
    "Stretch",
    "StretchKind",
]


@hookimpl
def lmgraft_architecture() -> list[Component[Any]]:
    return [
        Component(
            name="llama",
            target="lmgraft_decoders.architecture:Llama",
            config=LlamaConfig,
            summary="Llama, Mistral and Qwen2: RoPE, RMSNorm, SwiGLU, grouped-query attention",
            variants=("tiny", "160m", "1b", "7b", "13b", "3-8b", "mistral-7b", "qwen2-0.5b"),
        ),
        Component(
            name="gpt2",
            target="lmgraft_decoders.architecture:Gpt2",
            config=Gpt2Config,
            summary="GPT-2 and GPT-3: learned positions, LayerNorm, GELU",
            variants=("tiny", "124m", "355m", "774m", "1.5b", "gpt3-175b"),
        ),
        Component(
            name="falcon",
            target="lmgraft_decoders.architecture:Falcon",
            config=FalconConfig,
            summary="Falcon: multi-query attention, attention and MLP in parallel",
            variants=("tiny", "7b", "40b"),
        ),
        Component(
            name="bloom",
            target="lmgraft_decoders.architecture:Bloom",
            config=BloomConfig,
            summary="BLOOM: ALiBi, a norm after the embedding, GELU",
            variants=("tiny", "560m", "7b1", "176b"),
        ),
        Component(
            name="mixtral",
            target="lmgraft_decoders.architecture:Mixtral",
            config=MixtralConfig,
            summary="Mixtral: routed SwiGLU experts with a balance loss",
            variants=("tiny", "8x7b"),
        ),
    ]
