"""Depth up-scaling on real folders: the bytes are those of the two copies, and the config tells the truth."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from lmgraft import compose, recipe
from lmgraft.artifacts import checkpoint, streaming
from lmgraft.artifacts.layers import Stack, restacked, restacked_config, unstackable
from lmgraft.errors import UserError
from lmgraft_dus.dus import DUS, order
from lmgraft_dus.plugin import DUSConfig, quarter, wrong


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
    config = transformers.GPT2Config(vocab_size=40, n_embd=16, n_layer=6, n_head=2, n_positions=32)
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
    prefix = next(name for name in before if "h.2." in name).split("h.2.")[0]
    for new, old in enumerate([0, 1, 2, 3, 2, 3, 4, 5]):
        for part in ("attn.c_attn.weight", "attn.c_attn.bias", "ln_2.weight"):
            assert torch.equal(after[f"{prefix}h.{new}.{part}"], before[f"{prefix}h.{old}.{part}"])
    assert checkpoint.read_config(tmp_path / "out")["n_layer"] == 8
    assert transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "out").config.n_layer == 8


def test_experts_are_numbered_within_a_layer_and_stay_there() -> None:
    shapes = {f"model.layers.{i}.mlp.experts.{j}.w1.weight": (i, j) for i in range(6) for j in range(6)}
    merged = restacked({**shapes, "model.norm.weight": ()}, Stack("model.layers", 6), order(6, 2))
    assert len(merged) == 8 * 6 + 1
    assert merged["model.layers.4.mlp.experts.5.w1.weight"] == (2, 5)


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


def test_the_config_tells_the_truth_of_every_layer() -> None:
    config = {
        "num_hidden_layers": 5, "layer_types": list("abcde"), "hybrid_override_pattern": "MEM*E",
        "mlp_only_layers": [0, 3], "eos_token_id": [1, 2, 3, 4, 5], "vocab_size": 5,
    }  # fmt: skip
    assert restacked_config(config, 5, order(5, 2)) == {
        "num_hidden_layers": 6, "layer_types": list("abccde"), "hybrid_override_pattern": "MEMM*E",
        "mlp_only_layers": [0, 4], "eos_token_id": [1, 2, 3, 4, 5], "vocab_size": 5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("config", "layers", "drop", "found"),
    [
        ({"full_attention_interval": 4}, 32, 8, None),  # layer 24 is layer 8
        ({"full_attention_interval": 3}, 32, 8, ("full_attention_interval=3", 24, 8)),
        ({"sliding_window_pattern": 6, "layer_types": ["a"] * 26}, 26, 6, None),
        ({"sliding_window_pattern": 6}, 26, 6, ("sliding_window_pattern=6", 20, 6)),
        ({"first_k_dense_replace": 3}, 28, 6, None),
        ({"first_k_dense_replace": 3}, 28, 2, ("first_k_dense_replace=3", 26, 2)),
        ({"decoder_sparse_step": 1}, 10, 2, None),
        ({"num_kv_shared_layers": 4}, 16, 2, ("num_kv_shared_layers=4", 12, 12)),
    ],
)  # fmt: skip
def test_kinds_that_follow_from_a_layers_number(config: dict[str, Any], layers: int, drop: int, found: Any) -> None:
    assert unstackable(config, layers, order(layers, drop)) == found


def test_layers_that_would_change_their_kind_are_refused(tmp_path: Path) -> None:
    model = llama(tmp_path / "in", 14)
    (model / "config.json").write_text(json.dumps(checkpoint.read_config(model) | {"decoder_sparse_step": 3}))
    with pytest.raises(UserError, match=r"drop=2 layer 12 of the result is the original's layer 2(.|\n)*try: drop=4"):
        DUS(DUSConfig(drop=2)).merge([model], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    DUS(DUSConfig(drop=4)).merge([model], tmp_path / "out")


def header_only(folder: Path, shapes: dict[str, tuple[int, ...]], config: dict[str, Any]) -> Path:
    """A model folder of these shapes in bfloat16 whose tensors are a hole in the file: no bytes on the disk."""
    content, end = {}, 0
    for name, shape in shapes.items():
        content[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + 2 * math.prod(shape)]}
        end += 2 * math.prod(shape)
    text = json.dumps(content).encode()
    folder.mkdir()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_parameters_of_solar_from_mistral(tmp_path: Path) -> None:
    """7,241,732,096 -> 10,731,524,096 on Mistral 7B's shapes: what the plan makes of the headers, and the class of 48
    layers on meta."""
    config = transformers.MistralConfig(num_key_value_heads=8)
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (32, 4096, 14336)
    with torch.device("meta"):
        small = transformers.MistralForCausalLM(config).state_dict()
        grown = transformers.MistralForCausalLM(transformers.MistralConfig(num_hidden_layers=48, num_key_value_heads=8))
    shapes = {name: tuple(tensor.shape) for name, tensor in small.items()}
    folder = header_only(tmp_path / "mistral", shapes, config.to_dict())
    assert checkpoint.parameters(folder) == 7_241_732_096
    merged = restacked(streaming.pieces(folder), Stack("model.layers", 32), order(32, 8))
    assert streaming.parameters(merged) == 10_731_524_096
    assert sum(tensor.numel() for tensor in grown.parameters()) == 10_731_524_096
    expected = {name: tuple(tensor.shape) for name, tensor in grown.state_dict().items()}
    assert {name: piece.header.shape for name, piece in merged.items()} == expected
    after = transformers.MistralConfig(**restacked_config(config.to_dict(), 32, order(32, 8)))
    assert after.num_hidden_layers == 48


@pytest.mark.parametrize(
    ("drop", "said"),
    [
        (3, "odd"),
        (4, "no more than it has"),
        (6, "no more than it has"),
        (8, "lose all"),
        (10, "lose all"),
        (-2, "nothing is dropped"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path, drop: int, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        DUS(DUSConfig(drop=drop)).merge([llama(tmp_path / "in", 8)], tmp_path / "out")
    assert caught.value.problems[0].remedy.startswith("drop=2")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layers", range(1, 40))
def test_a_quarter_and_what_is_proposed_fit(layers: int) -> None:
    proposed = {m: remedy for m in range(layers + 3) if (found := wrong(m, layers)) and (remedy := found[1])}
    for remedy in proposed.values():
        if remedy.startswith("drop="):
            odd = "allow_odd" in remedy and layers < 5
            assert wrong(int(remedy.partition("=")[2].partition(",")[0]), layers, allow_odd=odd) is None
        else:
            assert layers < 3
    assert layers < 5 or wrong(quarter(layers), layers) is None


def test_an_odd_number_where_it_is_meant(tmp_path: Path) -> None:
    DUS(DUSConfig(drop=1, allow_odd=True)).merge([llama(tmp_path / "in")], tmp_path / "out")
    assert checkpoint.read_config(tmp_path / "out")["num_hidden_layers"] == 10


def test_other_folders_are_refused(tmp_path: Path) -> None:
    model = llama(tmp_path / "in")
    with pytest.raises(UserError, match="one model"):
        DUS(DUSConfig()).merge([model, model], tmp_path / "out")
    config = checkpoint.read_config(model)
    (model / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 5}))
    with pytest.raises(UserError, match=r"tells of 5 layers\n.*model\.layers\.N are of 6 layers, 0 to 5"):
        DUS(DUSConfig()).merge([model], tmp_path / "out")
    del config["num_hidden_layers"]
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="tells no number of layers"):
        DUS(DUSConfig()).merge([model], tmp_path / "out")


def test_an_encoder_and_a_decoder_are_two_stacks(tmp_path: Path) -> None:
    shapes = {f"model.{side}.layers.{i}.fc1.weight": (2, 2) for side in ("encoder", "decoder") for i in range(6)}
    model = header_only(tmp_path / "in", shapes, {"model_type": "bart", "num_hidden_layers": 6})
    with pytest.raises(UserError, match="2 stacks of layers"):
        DUS(DUSConfig()).merge([model], tmp_path / "out")


def problems(config: DUSConfig, before: int, after: int) -> list[Any]:
    """Of a recipe pretrain (before layers) -> up -> on (after layers); the model of ``again`` is up-scaled twice."""

    def stage(name: str, *parts: tuple[str, Any], **inputs: tuple[str, ...]) -> Any:
        return SimpleNamespace(
            name=name, inputs=inputs, parts=[SimpleNamespace(seam=s, config=c) for s, c in parts], config=None
        )

    def deep(layers: int) -> tuple[str, Any]:
        return "architecture", SimpleNamespace(layers=layers)

    stages = [
        stage("pretrain", deep(before)),
        stage("up", ("merge", config), models=("pretrain",)),
        stage("on", deep(after), model=("up",)),
        stage("again", ("merge", DUSConfig()), models=("up",)),
        stage("last", deep(99), model=("again",)),
    ]
    recipe: Any = SimpleNamespace(stages=stages, stage=lambda name: next(s for s in stages if s.name == name))
    return [*config.check_recipe(recipe, "up"), *(p for p in DUSConfig().check_recipe(recipe, "again"))]


def test_a_recipe_is_checked_before_any_work() -> None:
    (twice,) = problems(DUSConfig(drop=2), 8, 12)  # 12 layers are 20 with m = 2
    assert (twice.fact, twice.remedy) == ("last.architecture.layers=99", "last.architecture.layers=20")
    assert problems(DUSConfig(), 8, 12) == [twice]
    wrong_depth, _ = problems(DUSConfig(drop=2), 8, 8)
    assert (wrong_depth.fact, wrong_depth.remedy) == ("on.architecture.layers=8", "on.architecture.layers=12")
    large = problems(DUSConfig(drop=8), 8, 12)[0]
    assert large.fact == "up.merge: dus with drop=8 on the 8 layers of pretrain"
    assert "lose all" in large.cause
    assert large.remedy == "up.merge.drop=2"
    assert [text for text in DUSConfig(drop=3).check() if "odd" in text]
    assert problems(DUSConfig(drop=3), 8, 10)[0].fact.startswith("last.")  # check() has said it


RECIPE = """\
defaults:
  - base
  - stage@corpus: corpus
  - data_source@corpus.sources: [files]
  - stage@tokenizer: tokenizer
  - tokenizer@tokenizer.tokenizer: byte_bpe
  - stage@tokens: tokens
  - stage@pretrain: train
  - architecture@pretrain.architecture: llama
  - objective@pretrain.objective: causal_lm
  - optimizer@pretrain.optimizer: adamw
  - schedule@pretrain.schedule: cosine
  - initializer@pretrain.initializer: normal
  - stage@upscale: merge
  - merge@upscale.merge: dus
  - stage@continued: train
  - architecture@continued.architecture: llama
  - objective@continued.objective: causal_lm
  - optimizer@continued.optimizer: adamw
  - schedule@continued.schedule: cosine
  - _self_
stages: [corpus, tokenizer, tokens, pretrain, upscale, continued]
corpus: {sources: {files: {path: texts}}}
pretrain: {steps: 1, architecture: {layers: 8}}
continued: {steps: 1, model: upscale, architecture: {layers: 12}}
"""


@pytest.mark.parametrize(
    ("overrides", "lines"),
    [
        (["upscale.merge.drop=3"], ["upscale.merge.drop does not fit", "because: drop is 3: an odd m", "try: "]),
        (["upscale.merge.drop=0"], ["upscale.merge.drop does not fit", "because: drop is 0; it must be at", "try: "]),
        (
            ["upscale.merge.drop=8"],
            ["upscale.merge: dus with drop=8 on the 8 layers", "because: each copy", "try: upscale.merge.drop=2"],
        ),
        (
            ["continued.architecture.layers=8"],
            ["continued.architecture.layers=8", "because: its model", "try: continued.architecture.layers=12"],
        ),
    ],
)
def test_bad_settings_are_three_lines_before_any_work(tmp_path: Path, overrides: list[str], lines: list[str]) -> None:
    (tmp_path / "texts.txt").write_text("One text.")
    (tmp_path / "r.yaml").write_text(RECIPE.replace("path: texts", f"path: {tmp_path / 'texts.txt'}"))
    found = compose.resolve(str(tmp_path / "r.yaml"))
    assert recipe.read(compose.compose(found, []), found.name).stage("upscale")
    with pytest.raises(UserError) as caught:
        recipe.read(compose.compose(found, overrides), found.name)
    said = [line.strip() for line in str(caught.value).splitlines()]
    assert len(said) == 3
    assert all(line.startswith(start) for line, start in zip(said, lines, strict=True)), said
