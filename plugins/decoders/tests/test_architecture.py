"""Names, roles, FLOPs, checks, and the way to config.json and back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lmgraft.errors import UserError
from lmgraft.seams.architecture import Architecture, Role, TensorRole
from lmgraft.training import products
from lmgraft_decoders.architecture import Llama
from lmgraft_decoders.plugin import LlamaConfig, RmsNorm


def test_it_is_an_architecture() -> None:
    assert isinstance(Llama(LlamaConfig()), Architecture)


def test_every_parameter_has_a_role() -> None:
    part = Llama(LlamaConfig(layers=2))
    roles = {name: part.role(name) for name, _ in part.build(100).named_parameters()}
    assert Role.OTHER not in {role.role for role in roles.values()}
    assert roles["model.embed_tokens.weight"] == TensorRole(Role.EMBEDDING)
    assert roles["lm_head.weight"] == TensorRole(Role.HEAD)
    assert roles["model.norm.weight"] == TensorRole(Role.NORM)
    assert roles["model.layers.1.self_attn.o_proj.weight"] == TensorRole(Role.ATTENTION_OUT, 1)
    assert roles["model.layers.0.mlp.down_proj.weight"] == TensorRole(Role.MLP_OUT, 0)
    assert roles["model.layers.1.input_layernorm.weight"] == TensorRole(Role.NORM, 1)
    assert part.role("elsewhere") == TensorRole(Role.OTHER)


def test_flops_count_products_and_attention() -> None:
    config = LlamaConfig(layers=3, hidden=64, heads=4, kv_heads=2, mlp=96)
    part = Llama(config)
    named = part.build(500).named_parameters()
    matrices = sum(p.numel() for name, p in named if p.dim() == 2 and "embed" not in name)
    assert part.flops(128, 500) == 6 * matrices + 12 * 3 * 64 * 128
    assert part.flops(128) == part.flops(128, 500) - 6 * 500 * 64


def test_the_counted_products_are_those_that_torch_does(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    part = Llama(LlamaConfig(layers=2, hidden=64, heads=4, kv_heads=2, mlp=96))
    module = part.build(50, "cpu")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(0.01)
    ids = torch.zeros(2, 32, dtype=torch.long)
    # The counter knows plain products, neither oneDNN's nor the processor's fused attention.
    monkeypatch.setattr(products, "_faster_here", lambda: False)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        module(ids, targets=ids, asks={"logprob"})
    # Forward only, a third of all; torch counts 2 a multiplication with its addition, as the formula does.
    assert counter.get_total_flops() == pytest.approx(part.flops(32, 50) / 3 * ids.numel())


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"hidden": 250}, "multiple of heads"),
        ({"heads": 4, "kv_heads": 3}, "multiple of kv_heads"),
        ({"hidden": 12, "heads": 4}, "even"),
        ({"layers": 0}, "layers"),
        ({"context": -1}, "context"),
        ({"rope_theta": 0.0}, "rope_theta"),
        ({"norm_eps": 0.0}, "norm_eps"),
    ],
)
def test_values_that_cannot_be_are_named(settings: dict[str, Any], word: str) -> None:
    assert list(LlamaConfig().check()) == []
    (problem,) = LlamaConfig(**settings).check()
    assert word in problem


def test_every_problem_is_told_at_once() -> None:
    assert len(list(LlamaConfig(layers=0, mlp=0, rope_theta=-1.0).check())) == 3


def test_norms_are_offered_or_not() -> None:
    assert LlamaConfig().provides() == {"decoder_spec", "norm"}
    assert LlamaConfig(norm=RmsNorm.none).provides() == {"decoder_spec", "no_norm"}


@pytest.mark.parametrize("settings", [{}, {"kv_heads": 2, "tied": True, "rope_theta": 5e5, "norm_eps": 1e-6}])
def test_the_hub_config_comes_back_as_it_went(settings: dict[str, Any]) -> None:
    config = LlamaConfig(**settings)
    assert LlamaConfig.from_hub(Llama(config).hub_config(1000)) == config
    bare = LlamaConfig(**settings, norm=RmsNorm.none)
    written = Llama(bare).hub_config(1000)
    assert written["lmgraft_norm"] == "none"
    assert LlamaConfig.from_hub(written) == bare
    assert "lmgraft_norm" not in Llama(config).hub_config(1000)


def test_both_forms_of_transformers_are_read() -> None:
    sizes = {
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "vocab_size": 9,
    }  # fmt: skip
    old = LlamaConfig.from_hub({**sizes, "rope_theta": 5e5, "rope_scaling": None, "torch_dtype": "bfloat16"})
    new = LlamaConfig.from_hub(
        {**sizes, "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}, "dtype": "bfloat16"}
    )
    assert old == new
    assert old is not None
    assert (old.rope_theta, old.kv_heads, old.norm_eps, old.context) == (5e5, 4, 1e-6, 2048)
    assert LlamaConfig.from_hub({"model_type": "gpt2"}) is None


def test_transformers_reads_what_is_written(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = LlamaConfig(kv_heads=2, rope_theta=7e4, tied=True)
    theirs = transformers.LlamaConfig(**Llama(config).hub_config(1000))
    theirs.save_pretrained(tmp_path)
    import json

    assert LlamaConfig.from_hub(json.loads((tmp_path / "config.json").read_text())) == config


@pytest.mark.parametrize(
    ("switch", "word"),
    [
        ({"rope_parameters": {"rope_theta": 1e4, "rope_type": "yarn"}}, "rope_parameters to yarn"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_scaling to dynamic"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "differ from layer to layer"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor to 0.5"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types to full_attention, sliding_attention"),
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"lmgraft_norm": "other"}, "lmgraft_norm"),
    ],
)
def test_switches_that_are_not_built_are_refused(switch: dict[str, Any], word: str) -> None:
    with pytest.raises(UserError, match=word):
        LlamaConfig.from_hub({**Llama(LlamaConfig()).hub_config(1000), **switch})


def test_the_light_module_needs_no_torch() -> None:
    code = (
        "import sys; from lmgraft_decoders.plugin import LlamaConfig;"
        "LlamaConfig.from_hub({'model_type': 'llama', 'hidden_size': 8, 'intermediate_size': 8,"
        " 'num_hidden_layers': 1, 'num_attention_heads': 2, 'vocab_size': 9}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
