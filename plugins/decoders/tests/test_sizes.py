"""The sizes by name: counted from the spec, built here and by transformers, published; and their page in the docs."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lmgraft.seams.architecture import Architecture
from lmgraft_decoders import architecture, counts, plugin
from omegaconf import OmegaConf

DOCS = Path(__file__).parents[3] / "docs"
sys.path.insert(0, str(DOCS))
from generator.models import PUBLISHED, Size, models, sizes  # noqa: E402

SIZES = {size.name: size for size in sizes()}
#: Of a rounded figure; ``7B`` and ``40B`` are names as much as figures.
ROUNDED = 0.04

every = pytest.mark.parametrize("name", list(SIZES))


def part_of(size: Size) -> Architecture:
    family, variant = size.name.split("/")
    component = next(each for each in plugin.lmgraft_architecture() if each.name == family)
    file = Path(plugin.__file__).parent / "conf" / "architecture" / family / f"{variant}.yaml"
    values = OmegaConf.load(file)
    assert values.pop("defaults") == [f"/architecture/{family}@_here_", "_self_"]
    config: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(component.config), values))
    assert not list(config.check())
    found: Architecture = getattr(architecture, component.target.partition(":")[2])(config)
    return found


def test_every_variant_is_a_size_and_every_published_one_is_there() -> None:
    named = {f"{each.name}/{variant}" for each in plugin.lmgraft_architecture() for variant in each.variants}
    assert set(SIZES) == named
    assert set(PUBLISHED) == {name for name in named if not name.endswith("/tiny")}


@every
def test_the_counts_are_those_of_the_models_built(name: str) -> None:
    size = SIZES[name]
    part = part_of(size)
    assert part.spec() == size.spec
    named = {key: parameter.numel() for key, parameter in part.build(size.vocab).named_parameters()}
    assert counts.parameters(size.spec, size.vocab) == sum(named.values())
    idle = (size.spec.experts - size.spec.experts_per_token) / max(1, size.spec.experts)
    experts = sum(count for key, count in named.items() if ".experts." in key)
    assert counts.active_parameters(size.spec, size.vocab) == sum(named.values()) - experts * idle


@every
def test_transformers_builds_the_same_size_from_its_config(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    size = SIZES[name]
    written = part_of(size).hub_config(size.vocab)
    kind = getattr(transformers, written["architectures"][0])
    with torch.device("meta"):
        theirs = kind(kind.config_class(**written))
    theirs.tie_weights()
    count = sum(parameter.numel() for parameter in theirs.parameters())
    assert count == counts.parameters(size.spec, size.vocab)


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_the_counts_are_those_published(name: str) -> None:
    told, size = PUBLISHED[name], SIZES[name]
    close(counts.parameters(size.spec, size.vocab), told.parameters)
    if told.active:
        close(counts.active_parameters(size.spec, size.vocab), told.active)
    if told.flops:
        assert counts.flops(size.spec, 0, size.vocab) == pytest.approx(told.flops, rel=0.05)


def close(count: int, told: str) -> None:
    found = re.fullmatch(r"([\d.,]+)([MB]?)", told)
    assert found is not None
    value = float(found[1].replace(",", "")) * {"": 1, "M": 1e6, "B": 1e9}[found[2]]
    assert count == (pytest.approx(value, rel=ROUNDED) if found[2] else value)


#: What stands in the published config.json of these models (transformers 4), as far as it shapes them.
LLAMA = {
    "model_type": "llama", "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 11_008,
    "max_position_embeddings": 4096, "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32,
    "pretraining_tp": 1, "rms_norm_eps": 1e-5, "rope_scaling": None, "tie_word_embeddings": False,
    "torch_dtype": "float16",
}  # fmt: skip
LLAMA3 = {
    **LLAMA, "intermediate_size": 14_336, "num_key_value_heads": 8, "rope_theta": 500_000.0, "attention_bias": False,
    "max_position_embeddings": 8192,
}  # fmt: skip
FALCON = {
    "model_type": "falcon", "alibi": False, "apply_residual_connection_post_layernorm": False, "bias": False,
    "hidden_dropout": 0.0, "layer_norm_epsilon": 1e-5, "multi_query": True, "parallel_attn": True,
}  # fmt: skip
FILES: dict[str, dict[str, Any]] = {
    "llama/7b": LLAMA,
    "llama/3-8b": LLAMA3,
    "llama/mistral-7b": {
        **LLAMA3, "model_type": "mistral", "max_position_embeddings": 32_768, "rope_theta": 10_000.0,
        "sliding_window": 4096,
    },
    "llama/qwen2-0.5b": {
        **LLAMA, "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_attention_heads": 14,
        "num_hidden_layers": 24, "num_key_value_heads": 2, "max_position_embeddings": 131_072, "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0, "sliding_window": 131_072, "max_window_layers": 24, "use_sliding_window": False,
        "tie_word_embeddings": True,
    },
    "falcon/7b": {
        **FALCON, "hidden_size": 4544, "num_attention_heads": 71, "num_hidden_layers": 32, "num_kv_heads": 71,
        "new_decoder_architecture": False,
    },
    "falcon/40b": {
        **FALCON, "hidden_size": 8192, "num_attention_heads": 128, "num_hidden_layers": 60, "num_kv_heads": 8,
        "new_decoder_architecture": True,
    },
    "bloom/560m": {
        "model_type": "bloom", "attention_softmax_in_fp32": True, "n_embed": 1024, "n_head": 16, "n_layer": 24,
        "n_inner": None, "offset_alibi": 100, "seq_length": 2048, "skip_bias_add": True,
    },
    "bloom/176b": {
        "model_type": "bloom", "n_embed": 14_336, "num_attention_heads": 112, "n_layer": 70, "seq_length": 2048,
        "slow_but_exact": False,
    },
    "mixtral/8x7b": {
        **LLAMA3, "model_type": "mixtral", "max_position_embeddings": 32_768, "num_experts_per_tok": 2,
        "num_local_experts": 8, "output_router_logits": False, "rope_theta": 1_000_000.0, "router_aux_loss_coef": 0.02,
        "sliding_window": None,
    },
    "gpt2/124m": {
        "model_type": "gpt2", "activation_function": "gelu_new", "attn_pdrop": 0.1, "n_ctx": 1024, "n_embd": 768,
        "n_head": 12, "n_layer": 12, "n_positions": 1024, "layer_norm_epsilon": 1e-5,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", list(FILES))
def test_published_files_are_read_as_the_sizes_of_that_name(name: str) -> None:
    config = part_of(SIZES[name]).config  # type: ignore[attr-defined]
    assert type(config).from_hub({**FILES[name], "vocab_size": SIZES[name].vocab}) == config


def test_llama_31_is_read_with_its_scaling() -> None:
    scaling = {
        "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    }  # fmt: skip
    found = plugin.LlamaConfig.from_hub(
        {**LLAMA3, "max_position_embeddings": 131_072, "rope_scaling": scaling, "vocab_size": 128_256}
    )
    assert found is not None
    assert found.context == 131_072
    assert found.rope_scaling == plugin.Stretch(kind=plugin.StretchKind.llama3, factor=8.0)


def test_the_page_of_the_docs_is_fresh() -> None:
    assert (DOCS / "models.md").read_text(encoding="utf-8") == models(), "python docs/generate.py"
