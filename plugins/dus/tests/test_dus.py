"""Depth up-scaling on real folders: the bytes are those of the two copies, and the config tells the truth."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from lmgraft.artifacts import checkpoint
from lmgraft.artifacts.streaming import write
from lmgraft.errors import UserError
from lmgraft_dus.dus import DUS, plan, upscaled_config
from lmgraft_dus.plugin import DUSConfig


def llama(folder: Path, layers: int = 6, *, tied: bool = False, dtype: torch.dtype = torch.float32) -> Path:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=layers, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=tied, max_position_embeddings=32,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).to(dtype).save_pretrained(folder)
    return folder


def gpt2(folder: Path) -> Path:
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=40, n_embd=16, n_layer=4, n_head=2, n_positions=32)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_are_those_of_two_overlapping_copies(tmp_path: Path, dtype: torch.dtype) -> None:
    model = llama(tmp_path / "in", dtype=dtype)
    seen: list[tuple[int, int]] = []
    DUS(DUSConfig(drop=2)).merge([model], tmp_path / "out", lambda done, total: seen.append((done, total)))
    before, after = checkpoint.tensors(model), checkpoint.tensors(tmp_path / "out")
    order = [0, 1, 2, 3, 2, 3, 4, 5]
    for new, old in enumerate(order):
        names = [name for name in before if name.startswith(f"model.layers.{old}.")]
        assert names
        for name in names:
            merged = after[name.replace(f"layers.{old}.", f"layers.{new}.")]
            assert merged.dtype == dtype
            assert torch.equal(merged, before[name])
    others = [name for name in before if ".layers." not in name]
    assert all(torch.equal(after[name], before[name]) for name in others)
    assert len(after) == len(others) + 8 * (len(before) - len(others)) // 6
    assert checkpoint.read_config(tmp_path / "out")["num_hidden_layers"] == 8
    assert seen[-1][0] == seen[-1][1] == sum(t.numel() * t.element_size() for t in after.values())


def test_transformers_loads_it_and_runs_the_layers_in_that_order(tmp_path: Path) -> None:
    model = llama(tmp_path / "in")
    DUS(DUSConfig(drop=2)).merge([model], tmp_path / "out")
    whole = transformers.LlamaForCausalLM.from_pretrained(model)
    grown = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "out")
    whole.model.layers = torch.nn.ModuleList([whole.model.layers[i] for i in (0, 1, 2, 3, 2, 3, 4, 5)])
    whole.config.num_hidden_layers = 8
    ids = torch.arange(12)[None]
    # A cache would be written twice by a layer that stands twice.
    torch.testing.assert_close(grown(ids, use_cache=False).logits, whole(ids, use_cache=False).logits)


def test_a_quarter_is_dropped_by_default(tmp_path: Path) -> None:
    DUS(DUSConfig()).merge([llama(tmp_path / "in", 8)], tmp_path / "out")
    assert checkpoint.read_config(tmp_path / "out")["num_hidden_layers"] == 12


def test_gpt2s_names(tmp_path: Path) -> None:
    DUS(DUSConfig(drop=2)).merge([gpt2(tmp_path / "in")], tmp_path / "out")
    before, after = checkpoint.tensors(tmp_path / "in"), checkpoint.tensors(tmp_path / "out")
    prefix = next(iter(name for name in before if ".h.2." in name or name.startswith("h.2."))).split("h.2.")[0]
    assert torch.equal(after[f"{prefix}h.2.attn.c_attn.weight"], before[f"{prefix}h.2.attn.c_attn.weight"])
    assert torch.equal(after[f"{prefix}h.3.attn.c_attn.weight"], before[f"{prefix}h.3.attn.c_attn.weight"])
    assert checkpoint.read_config(tmp_path / "out")["n_layer"] == 4


def test_sharded_models_and_tied_heads(tmp_path: Path) -> None:
    model = llama(tmp_path / "in", tied=True)
    state = dict(checkpoint.tensors(model)) | {"lm_head.weight": checkpoint.tensors(model)["model.embed_tokens.weight"]}
    config = {**checkpoint.read_config(model), "tie_word_embeddings": False}
    checkpoint.write(tmp_path / "shards", state, config, shard_bytes=4000)
    told = {**config, "tie_word_embeddings": True}  # a writer that stores both names of the one matrix
    (tmp_path / "shards" / "config.json").write_text(json.dumps(told))
    DUS(DUSConfig(drop=2)).merge([tmp_path / "shards"], tmp_path / "out")
    DUS(DUSConfig(drop=2)).merge([model], tmp_path / "plain")
    left, right = checkpoint.tensors(tmp_path / "out"), checkpoint.tensors(tmp_path / "plain")
    assert set(left) == set(right)
    assert "lm_head.weight" not in left
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert transformers.LlamaForCausalLM.from_pretrained(tmp_path / "out").config.num_hidden_layers == 8


def test_output_may_be_sharded_too(tmp_path: Path) -> None:
    from lmgraft.artifacts.streaming import pieces

    model = llama(tmp_path / "in")
    write(tmp_path / "out", pieces(model), checkpoint.read_config(model), shard_bytes=4000)
    left, right = checkpoint.tensors(tmp_path / "out"), checkpoint.tensors(model)
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 2
    assert all(torch.equal(left[name], right[name]) for name in right)


def test_what_is_listed_a_layer_is_stacked_alike() -> None:
    config = {"num_hidden_layers": 4, "layer_types": ["a", "b", "c", "d"], "eos_token_id": [1, 2]}
    assert upscaled_config(config, 4, 2) == {
        "num_hidden_layers": 4, "layer_types": ["a", "b", "c", "d"], "eos_token_id": [1, 2],
    }  # fmt: skip
    assert upscaled_config({**config, "layer_types": list("abcd")}, 4, 1)["layer_types"] == list("abcbcd")


def test_parameters_of_solar_from_mistral() -> None:
    """7,241,732,096 -> 10,731,524,096 on Mistral 7B's shapes, both ways: the plan, and the class built on meta."""
    config = transformers.MistralConfig(num_key_value_heads=8)
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (32, 4096, 14336)
    with torch.device("meta"):
        small = transformers.MistralForCausalLM(config)
        grown = transformers.MistralForCausalLM(transformers.MistralConfig(num_hidden_layers=48, num_key_value_heads=8))
    shapes = {name: tuple(tensor.shape) for name, tensor in small.state_dict().items()}
    merged = plan(shapes, 32, 8)
    assert sum(map(math.prod, shapes.values())) == 7_241_732_096
    assert sum(map(math.prod, merged.values())) == 10_731_524_096
    assert merged == {name: tuple(tensor.shape) for name, tensor in grown.state_dict().items()}


@pytest.mark.parametrize(("drop", "said"), [(3, "odd"), (6, "lose all"), (8, "lose all"), (-2, "nothing is dropped")])
def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path, drop: int, said: str) -> None:
    with pytest.raises(UserError, match=said):
        DUS(DUSConfig(drop=drop)).merge([llama(tmp_path / "in")], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_odd_number_where_it_is_meant(tmp_path: Path) -> None:
    DUS(DUSConfig(drop=1, allow_odd=True)).merge([llama(tmp_path / "in")], tmp_path / "out")
    assert checkpoint.read_config(tmp_path / "out")["num_hidden_layers"] == 10


def test_other_folders_are_refused(tmp_path: Path) -> None:
    model = llama(tmp_path / "in")
    with pytest.raises(UserError, match="one model"):
        DUS(DUSConfig()).merge([model, model], tmp_path / "out")
    lying = checkpoint.read_config(model) | {"num_hidden_layers": 5}
    (model / "config.json").write_text(json.dumps(lying))
    with pytest.raises(UserError, match="tells of 5 layers"):
        DUS(DUSConfig()).merge([model], tmp_path / "out")


def problems(config: DUSConfig, before: int, after: int) -> list[Any]:
    def stage(name: str, layers: int | None, **inputs: tuple[str, ...]) -> Any:
        parts = [SimpleNamespace(seam="architecture", config=SimpleNamespace(layers=layers))] if layers else []
        return SimpleNamespace(name=name, parts=parts, inputs=inputs)

    stages = [stage("pretrain", before), stage("up", None, models=("pretrain",)), stage("on", after, model=("up",))]
    recipe: Any = SimpleNamespace(stages=stages, stage=lambda name: next(s for s in stages if s.name == name))
    return list(config.check_recipe(recipe, "up"))


def test_a_recipe_is_checked_before_any_work() -> None:
    assert problems(DUSConfig(drop=2), 8, 12) == []
    assert problems(DUSConfig(), 8, 12) == []
    (wrong,) = problems(DUSConfig(drop=2), 8, 8)
    assert (wrong.fact, wrong.remedy) == ("on.architecture.layers=8", "on.architecture.layers=12")
    (large,) = problems(DUSConfig(drop=8), 8, 12)
    assert "lose all" in large.cause
    assert [text for text in DUSConfig(drop=3).check() if "odd" in text]
