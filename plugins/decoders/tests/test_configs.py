"""The settings of every family: what cannot be is named, and nothing heavy is imported for them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from lmgraft.seams.architecture import RopeScaling
from lmgraft_decoders.plugin import (
    BloomConfig,
    FalconConfig,
    Family,
    Gpt2Config,
    LayerNorm,
    LlamaConfig,
    MixtralConfig,
    RmsNorm,
    Stretch,
    StretchKind,
)

LINEAR, LLAMA3 = StretchKind.linear, StretchKind.llama3
KINDS = (LlamaConfig, Gpt2Config, FalconConfig, BloomConfig, MixtralConfig)


@pytest.mark.parametrize(
    ("kind", "settings", "word"),
    [
        (LlamaConfig, {"window": -1, "family": Family.mistral}, "window is -1"),
        (LlamaConfig, {"window": 4}, "set family to mistral"),
        (LlamaConfig, {"bias": True, "family": Family.mistral}, "set family to llama"),
        (LlamaConfig, {"qkv_bias": True}, "set family to qwen2"),
        (LlamaConfig, {"family": Family.qwen2}, "set qkv_bias to true"),
        (LlamaConfig, {"head_dim": 0}, "head_dim is 0"),
        (LlamaConfig, {"head_dim": 7}, "head_dim is 7; rotary positions turn pairs"),
        (LlamaConfig, {"rope_scaling": Stretch(factor=2.0)}, "rope_scaling.factor is 2.0, and rope_scaling.kind none"),
        (LlamaConfig, {"rope_scaling": Stretch(kind=LINEAR, factor=0.0)}, "rope_scaling.factor is 0.0; it must"),
        (
            LlamaConfig,
            {"rope_scaling": Stretch(kind=LINEAR, factor=float("inf"))},
            "rope_scaling.factor is inf; it must",
        ),
        (LlamaConfig, {"rope_scaling": Stretch(kind=LINEAR, original_context=4)}, "kind linear does not use it"),
        (LlamaConfig, {"rope_scaling": Stretch(kind=LLAMA3, high_freq_factor=1.0)}, "above low_freq_factor (1.0)"),
        (FalconConfig, {"kv_heads": 2}, "kv_heads is 2; without new_decoder it is 1 or heads (4)"),
        (FalconConfig, {"kv_heads": 3, "new_decoder": True}, "heads (4) is not a multiple of kv_heads (3)"),
        (FalconConfig, {"new_decoder": True, "parallel": False}, "always parallel"),
        (FalconConfig, {"shared_norm": False}, "only a block of new_decoder has two norms"),
        (FalconConfig, {"hidden": 12}, "3 wide; rotary positions turn pairs"),
        (BloomConfig, {"heads": 3}, "hidden (256) is not a multiple of heads (3)"),
        (BloomConfig, {"context": 0}, "context is 0"),
        (MixtralConfig, {"experts_per_token": 9}, "experts_per_token is 9; there are 8 experts"),
        (MixtralConfig, {"experts": 0}, "experts is 0"),
        (MixtralConfig, {"expert_balance": -0.1}, "expert_balance is -0.1"),
        (MixtralConfig, {"window": -2}, "window is -2"),
        (MixtralConfig, {"norm_eps": float("nan")}, "norm_eps is nan"),
    ],
)
def test_values_that_cannot_be_are_named(kind: Any, settings: dict[str, Any], word: str) -> None:
    (problem,) = kind(**settings).check()
    assert word in problem


@pytest.mark.parametrize("kind", KINDS)
def test_the_defaults_can_be_and_say_what_they_provide(kind: Any) -> None:
    assert not list(kind().check())
    assert kind().provides() == {"decoder_spec", "norm"}
    bare = kind(norm=RmsNorm.none if kind in (LlamaConfig, MixtralConfig) else LayerNorm.none)
    assert bare.provides() == {"decoder_spec", "no_norm"}
    assert not bare.spec().embedding_norm
    assert kind.model_types


@pytest.mark.parametrize("kind", [LlamaConfig, MixtralConfig])
def test_a_width_that_follows_is_said_in_one_way(kind: Any) -> None:
    assert kind(hidden=64, heads=4, head_dim=16) == kind(hidden=64, heads=4)
    assert kind(hidden=64, heads=4, head_dim=24).spec().head_dim == 24


def test_the_spec_says_how_wavelengths_are_stretched() -> None:
    assert LlamaConfig().spec().rope_scaling is None
    found = LlamaConfig(rope_scaling=Stretch(kind=LLAMA3, factor=8.0, original_context=16)).spec().rope_scaling
    assert found == RopeScaling(kind="llama3", factor=8.0, original_context=16)


def test_files_are_read_without_anything_heavy() -> None:
    code = (
        "import sys; from lmgraft_decoders import plugin\n"
        "for kind in ('Llama', 'Gpt2', 'Falcon', 'Bloom', 'Mixtral'):\n"
        "    config = getattr(plugin, kind + 'Config')\n"
        "    try: config.from_hub({'model_type': config.model_types[0]})\n"
        "    except Exception as error: assert type(error).__name__ == 'UserError', error\n"
        "    config().spec()\n"
        "print(*{'torch', 'numpy', 'transformers', 'safetensors'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
