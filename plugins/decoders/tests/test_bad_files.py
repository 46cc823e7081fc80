"""Files of others that are damaged, or of a model that is not built here: three lines each, and never a traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lmgraft.artifacts import checkpoint
from lmgraft.errors import UserError
from lmgraft.loading import architecture_for
from lmgraft.training import weights
from lmgraft_decoders import architecture
from lmgraft_decoders.plugin import (
    BloomConfig,
    FalconConfig,
    Family,
    Gpt2Config,
    LlamaConfig,
    MixtralConfig,
    Stretch,
    StretchKind,
)

V = 23
LLAMA3 = Stretch(kind=StretchKind.llama3, factor=8.0, original_context=16)
SIZES: dict[str, Any] = {"layers": 1, "hidden": 16, "heads": 4, "context": 32}
PARTS: dict[str, Any] = {
    "llama": architecture.Llama(LlamaConfig(**SIZES, kv_heads=2, mlp=24, rope_scaling=LLAMA3)),
    "mistral": architecture.Llama(LlamaConfig(**SIZES, family=Family.mistral, kv_heads=2, mlp=24, window=5)),
    "qwen2": architecture.Llama(LlamaConfig(**SIZES, family=Family.qwen2, qkv_bias=True, mlp=24, window=5)),
    "gpt2": architecture.Gpt2(Gpt2Config(**SIZES, mlp=24)),
    "falcon": architecture.Falcon(FalconConfig(**SIZES, mlp=24, bias=True)),
    "falcon 40b": architecture.Falcon(FalconConfig(**SIZES, kv_heads=2, mlp=24, new_decoder=True, shared_norm=False)),
    "bloom": architecture.Bloom(BloomConfig(**SIZES)),
    "mixtral": architecture.Mixtral(MixtralConfig(**SIZES, mlp=24, experts=3)),
}
DAMAGED = ("twelve", "", -1, 0, 1.5, True, [], {}, float("nan"), float("inf"), -0.5, 10**30, 7, None, [1], {"a": {}})

every = pytest.mark.parametrize("name", list(PARTS))


@every
def test_a_damaged_value_is_told_and_never_taken(name: str) -> None:
    """Each key of a config.json in turn: what is taken is a model that can be, the rest ends in three lines."""
    part = PARTS[name]
    written = part.hub_config(V)
    told = []
    for key in set(written) - {"model_type"}:
        for value in DAMAGED:
            try:
                found = type(part.config).from_hub({**written, key: value})
            except UserError as error:
                told += error.problems
                continue
            assert not list(found.check()), (key, value)
            assert found.spec().layers >= 1
    assert len(told) > 60
    for problem in told:
        assert problem.fact.startswith("config.json ")
        assert len(str(problem).splitlines()) == 3


@every
def test_a_model_type_of_any_kind_is_none_of_its_own(name: str) -> None:
    for value in DAMAGED:
        assert type(PARTS[name].config).from_hub({"model_type": value}) is None
    assert type(PARTS[name].config).from_hub({}) is None


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("llama", {"num_hidden_layers": "32"}, "num_hidden_layers to '32' because: it is a whole number from 1 on"),
        ("llama", {"hidden_size": -16}, "hidden_size to -16"),
        ("llama", {"vocab_size": "large"}, "vocab_size to 'large'"),
        ("bloom", {"vocab_size": None}, "gives no vocab_size because: a bloom cannot be built without it"),
        ("llama", {"num_hidden_layers": True}, "num_hidden_layers to True because: it is a whole number"),
        ("llama", {"num_attention_heads": 0}, "num_attention_heads to 0"),
        ("llama", {"num_key_value_heads": 3}, "heads (4) is not a multiple of kv_heads (3)"),
        (
            "llama",
            {"num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": None},
            "hidden (16) is not a multiple of heads (3)",
        ),
        ("llama", {"head_dim": 7}, "head_dim is 7; rotary positions turn pairs"),
        ("llama", {"intermediate_size": None}, "gives no intermediate_size because: a llama cannot be built without"),
        ("llama", {"rms_norm_eps": 0.0}, "rms_norm_eps to 0.0 because: it is a number above 0"),
        ("llama", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_scaling to yarn"),
        ("llama", {"rope_scaling": {"rope_type": "linear"}}, "gives no factor in rope_scaling"),
        ("llama", {"rope_scaling": "linear"}, "rope_scaling to 'linear' because: it is an object"),
        ("llama", {"attention_bias": True}, "attention_bias to true, and the other to false"),
        ("mistral", {"sliding_window": "wide"}, "sliding_window to 'wide'"),
        ("qwen2", {"max_window_layers": 1, "num_hidden_layers": 2}, "max_window_layers to 1 of 2 layers"),
        ("gpt2", {"n_head": 5}, "hidden (16) is not a multiple of heads (5)"),
        ("gpt2", {"n_layer": None}, "gives no n_layer"),
        ("falcon", {"alibi": True}, "alibi to true because: Falcon-RW's ALiBi is divided"),
        ("falcon", {"activation": "relu"}, "activation to relu because: the falcon architecture of lmgraft does not"),
        ("falcon", {"num_ln_in_parallel_attn": 2}, "num_ln_in_parallel_attn to 2"),
        ("falcon", {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "rope_scaling to linear"),
        ("falcon", {"multi_query": False, "num_kv_heads": 2}, "kv_heads is 2; without new_decoder"),
        ("falcon 40b", {"parallel_attn": False}, "a block of new_decoder is always parallel"),
        ("falcon 40b", {"num_kv_heads": 3}, "heads (4) is not a multiple of kv_heads (3)"),
        ("bloom", {"apply_residual_connection_post_layernorm": True}, "apply_residual_connection_post_layernorm"),
        ("bloom", {"n_head": 3}, "hidden (16) is not a multiple of heads (3)"),
        ("mixtral", {"num_experts_per_tok": 4}, "experts_per_token is 4; there are 3 experts"),
        ("mixtral", {"router_aux_loss_coef": -1}, "router_aux_loss_coef to -1 because: it is a number of at least 0"),
        ("mixtral", {"hidden_act": "gelu"}, "hidden_act to gelu"),
    ],
)
def test_what_is_told(name: str, change: dict[str, Any], words: str) -> None:
    part = PARTS[name]
    with pytest.raises(UserError) as caught:
        type(part.config).from_hub({**part.hub_config(V), **change})
    (problem,) = caught.value.problems
    assert words in " ".join(str(problem).split())


def test_every_problem_is_told_at_once() -> None:
    part = PARTS["mixtral"]
    change = {"hidden_size": "wide", "num_local_experts": -1, "hidden_act": "relu", "rope_theta": 0}
    with pytest.raises(UserError) as caught:
        type(part.config).from_hub({**part.hub_config(V), **change})
    assert len(caught.value.problems) == 4


def stored(name: str) -> dict[str, torch.Tensor]:
    """A model folder's tensors, all different."""
    part = PARTS[name]
    module = weights.materialise(part, V, "cpu")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(generator=generator)
    return {key: tensor.clone() for key, tensor in part.to_hub(weights.canonical(module)).items()}


def refused(name: str, tensors: dict[str, torch.Tensor], folder: Path) -> UserError:
    part = PARTS[name]
    checkpoint.write(folder, tensors, part.hub_config(V))
    with pytest.raises(UserError) as caught:
        weights.load_into(weights.materialise(part, V, "cpu"), architecture_for(folder), folder)
    return caught.value


@every
def test_a_tensor_that_lacks_or_has_another_shape_is_told(name: str, tmp_path: Path) -> None:
    tensors = stored(name)
    for at, (key, tensor) in enumerate(tensors.items()):
        wrong = {
            "none": None,
            "scalar": torch.tensor(1.0),
            "longer": torch.zeros(tensor.shape[0] + 1, *tensor.shape[1:]),
            "deeper": tensor[None].clone(),
            "halved": tensor[: len(tensor) // 2].clone(),
        }
        for word, changed in wrong.items():
            given = {other: one for other, one in tensors.items() if other != key}
            if changed is not None:
                given[key] = changed
            error = refused(name, given, tmp_path / f"{at} {word}")
            assert all(("lacks the tensor" in each.fact) is (word == "none") for each in error.problems), error
            assert all(len(str(each).splitlines()) == 3 for each in error.problems)


def test_stacked_experts_of_another_shape_are_told(tmp_path: Path) -> None:
    tensors = {key: one for key, one in stored("mixtral").items() if ".experts." not in key}
    at = "model.layers.0.mlp.experts"
    right = {f"{at}.gate_up_proj": torch.zeros(3, 48, 16), f"{at}.down_proj": torch.zeros(3, 16, 24)}
    checkpoint.write(tmp_path / "right", {**tensors, **right}, PARTS["mixtral"].hub_config(V))
    weights.load_into(weights.materialise(PARTS["mixtral"], V, "cpu"), PARTS["mixtral"], tmp_path / "right")
    for index, shape in enumerate([(), (2, 48, 16), (3, 47, 16), (48, 16), (3, 16)]):
        wrong = {**tensors, **right, f"{at}.gate_up_proj": torch.zeros(shape)}
        error = refused("mixtral", wrong, tmp_path / str(index))
        assert any("mlp.experts.2.up_proj.weight is" in problem.fact for problem in error.problems)


@every
def test_a_tensor_that_nobody_knows_is_told(name: str, tmp_path: Path) -> None:
    error = refused(name, {**stored(name), "model.adapter.weight": torch.zeros(3)}, tmp_path)
    (problem,) = error.problems
    assert "holds the tensor model.adapter.weight" in problem.fact


@pytest.mark.parametrize("name", ["falcon", "falcon 40b", "bloom"])
def test_names_without_the_prefix_and_old_frequencies_are_taken(name: str) -> None:
    tensors = stored(name)
    bare = {key.removeprefix("transformer."): one for key, one in tensors.items()}
    bare["h.0.self_attention.maybe_rotary.inv_freq"] = torch.zeros(2)
    expected, found = PARTS[name].from_hub(tensors), PARTS[name].from_hub(bare)
    assert set(found) == set(expected)
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_llamas_old_frequencies_are_left_out() -> None:
    tensors = stored("llama")
    old = {**tensors, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(2)}
    assert set(PARTS["llama"].from_hub(old)) == set(tensors)
    assert PARTS["llama"].from_hub(tensors) is tensors


def test_falcons_three_layouts_by_hand() -> None:
    """Against the layouts in words: all queries, then the key, then the value; a group's; a head's."""
    rows = torch.arange(24)[:, None].float()  # head width 4
    cases = [
        (FalconConfig(layers=1, hidden=16, heads=4), "k_proj", [16, 17, 18, 19]),
        (FalconConfig(layers=1, hidden=8, heads=2, kv_heads=2), "k_proj", [4, 5, 6, 7, 16, 17, 18, 19]),
        (FalconConfig(layers=1, hidden=8, heads=2, kv_heads=2), "v_proj", [8, 9, 10, 11, 20, 21, 22, 23]),
        (FalconConfig(layers=1, hidden=16, heads=4, new_decoder=True), "q_proj", list(range(16))),
    ]
    for config, part, expected in cases:
        found = architecture.Falcon(config).from_hub({"transformer.h.0.self_attention.query_key_value.weight": rows})
        assert found[f"model.layers.0.self_attn.{part}.weight"].flatten().tolist() == expected
