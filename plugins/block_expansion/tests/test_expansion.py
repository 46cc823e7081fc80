"""Block expansion of every family at hand: the answers stay, the new layers are there, and train."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from lmgraft.artifacts import checkpoint
from lmgraft.errors import UserError
from lmgraft.loading import architecture_for
from lmgraft.seams.architecture import Role
from lmgraft_block_expansion.expansion import BlockExpansion, order
from lmgraft_block_expansion.outputs import Unknown, outputs
from lmgraft_block_expansion.plugin import BlockExpansionConfig

SMALL = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
}
LLAMA = {**SMALL, "intermediate_size": 48, "num_key_value_heads": 2}

FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: hf.LlamaConfig(**LLAMA),
    "llama_bias": lambda: hf.LlamaConfig(**LLAMA, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "mistral": lambda: hf.MistralConfig(**LLAMA),
    "qwen2": lambda: hf.Qwen2Config(**LLAMA),
    "qwen3": lambda: hf.Qwen3Config(**LLAMA),
    "gemma2": lambda: hf.Gemma2Config(**LLAMA, head_dim=8),
    "gpt2": lambda: hf.GPT2Config(vocab_size=40, n_embd=32, n_layer=4, n_head=4, n_positions=32),
    "gpt_neox": lambda: hf.GPTNeoXConfig(**SMALL, intermediate_size=48),
    "gptj": lambda: hf.GPTJConfig(vocab_size=40, n_embd=32, n_layer=4, n_head=4, n_positions=32, rotary_dim=4),
    "falcon": lambda: hf.FalconConfig(**SMALL),
    "falcon_40b": lambda: hf.FalconConfig(**SMALL, new_decoder_architecture=True, num_kv_heads=2, bias=True),
    "bloom": lambda: hf.BloomConfig(vocab_size=40, hidden_size=32, n_layer=4, n_head=4),
    "mixtral": lambda: hf.MixtralConfig(**LLAMA, num_local_experts=4),
    "qwen2_moe": lambda: hf.Qwen2MoeConfig(**LLAMA, num_experts=4, moe_intermediate_size=16),
    "opt": lambda: hf.OPTConfig(**SMALL, ffn_dim=48, word_embed_proj_dim=32),
    "phi": lambda: hf.PhiConfig(**LLAMA),
    "phi3": lambda: hf.Phi3Config(**LLAMA, pad_token_id=0),
    "starcoder2": lambda: hf.Starcoder2Config(**LLAMA),
}  # fmt: skip


def made(folder: Path, family: str = "llama") -> Path:
    """A model whose every weight is random: at their usual start biases would be 0 anyway."""
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(FAMILIES[family]()).float()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
    model.save_pretrained(folder)
    return folder


def logits(folder: Path) -> torch.Tensor:
    torch.manual_seed(1)
    model = hf.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        found: torch.Tensor = model(torch.randint(40, (2, 9)), use_cache=False).logits
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_the_originals(tmp_path: Path, family: str) -> None:
    model = made(tmp_path / "in", family)
    BlockExpansion(BlockExpansionConfig(every=2)).merge([model], tmp_path / "out")
    before, after = logits(model), logits(tmp_path / "out")
    assert before.std() > 0.01
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)
    config = checkpoint.read_config(tmp_path / "out")
    assert config.get("num_hidden_layers", config.get("n_layer")) == 6
    assert config["lmgraft_new_layers"] == [2, 5]


def test_the_new_layers_are_copies_but_for_their_outputs(tmp_path: Path) -> None:
    model = made(tmp_path / "in", "llama_bias")
    BlockExpansion(BlockExpansionConfig(every=2)).merge([model], tmp_path / "out")
    before, after = checkpoint.tensors(model), checkpoint.tensors(tmp_path / "out")
    zero = 0
    for new, (old, fresh) in enumerate([(0, False), (1, False), (1, True), (2, False), (3, False), (3, True)]):
        for name in before:
            if name.startswith(f"model.layers.{old}."):
                merged = after[name.replace(f"layers.{old}.", f"layers.{new}.")]
                if fresh and ("o_proj" in name or "down_proj" in name):
                    zero += 1
                    assert not merged.any()
                else:
                    assert torch.equal(merged, before[name])
    assert zero == 8
    assert all(torch.equal(after[name], before[name]) for name in before if ".layers." not in name)


@pytest.mark.parametrize("family", ["llama", "gpt2", "falcon", "bloom", "mixtral"])
def test_they_are_what_the_architecture_calls_outputs(tmp_path: Path, family: str) -> None:
    model = made(tmp_path / "in", family)
    BlockExpansion(BlockExpansionConfig(every=4)).merge([model], tmp_path / "out")
    architecture: Any = architecture_for(tmp_path / "out")
    seen = set()
    for name, tensor in architecture.from_hub(checkpoint.tensors(tmp_path / "out")).items():
        role = architecture.role(name)
        if role.layer == 4 and tensor.dim() > 1:
            output = role.role in (Role.ATTENTION_OUT, Role.MLP_OUT)
            assert output == (not tensor.any()), name
            seen.add(role.role)
    assert {Role.ATTENTION_OUT, Role.MLP_OUT, Role.QUERY, Role.MLP_IN} <= seen


def test_new_layers_learn(tmp_path: Path) -> None:
    """At zero the outputs have a gradient, and what stands before them has one as soon as they have moved."""
    BlockExpansion(BlockExpansionConfig(every=2)).merge([made(tmp_path / "in")], tmp_path / "out")
    model = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    new = [f".{number}." for number in model.config.lmgraft_new_layers]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(number in name for number in new))
    ids = torch.randint(40, (2, 9))
    steps = torch.optim.SGD([parameter for parameter in model.parameters() if parameter.requires_grad], lr=0.1)
    losses = []
    for _ in range(3):
        steps.zero_grad()
        loss = model(ids, labels=ids).loss
        loss.backward()
        steps.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    layer = model.model.layers[2]
    assert layer.mlp.down_proj.weight.grad.any()
    assert layer.mlp.up_proj.weight.grad.any()


def test_orders() -> None:
    assert order(4, 2, 1) == ([0, 1, 1, 2, 3, 3], [2, 5])
    assert order(4, 4, 2) == ([0, 1, 2, 3, 2, 3], [4, 5])
    sources, new = order(32, 4, 1)  # the paper's: 32 to 40
    assert len(sources) == 40
    assert new == list(range(4, 40, 5))


@pytest.mark.parametrize(
    ("config", "said", "remedy"),
    [
        (BlockExpansionConfig(every=3), "4 layers do not divide", "every=2"),
        (BlockExpansionConfig(groups=3), "4 layers do not divide", "groups=2"),
        (BlockExpansionConfig(every=8), "4 layers do not divide", "every=4"),
        (BlockExpansionConfig(groups=4, copies=2), "a group has 1 layers", "copies=1"),
        (BlockExpansionConfig(outputs=["self_attn.o_proj", "mlp.nothing"]), "no tensor of it ends in mlp.nothing", ""),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, config: BlockExpansionConfig, said: str, remedy: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        BlockExpansion(config).merge([made(tmp_path / "in")], tmp_path / "out")
    assert len(str(caught.value).splitlines()) == 3
    assert caught.value.problems[0].remedy.startswith(remedy)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("family", "setting"),
    [("bloom", {"apply_residual_connection_post_layernorm": True}), ("opt", {"do_layer_norm_before": False}),
     ("llama", {"quantization_config": {}}), ("gpt2", {"scale_attn_by_inverse_layer_idx": True})],
)  # fmt: skip
def test_families_under_which_no_layer_is_the_identity(tmp_path: Path, family: str, setting: dict[str, Any]) -> None:
    model = made(tmp_path / "in", family)
    (model / "config.json").write_text(json.dumps(checkpoint.read_config(model) | setting))
    with pytest.raises(UserError):
        BlockExpansion(BlockExpansionConfig(every=2)).merge([model], tmp_path / "out")
    assert not (tmp_path / "out").exists()


ATTENTION = {"attn.q_proj.weight": (4, 4), "attn.o_proj.weight": (4, 4), "attn.o_proj.bias": (4,), "norm.weight": (4,)}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"mlp.up_proj.weight": (8, 4), "mlp.down_proj.weight": (4, 8)}, ""),
        ({"mlp.experts.down_proj": (2, 4, 8), "mlp.gate.weight": (2, 4)}, ""),
        ({}, "attention and MLP have an output each"),
        ({"mixer.strange.weight": (4, 4)}, "mixer.strange is not known"),
        ({"mlp.w1.weight": (8, 4), "mlp.w2.weight": (8, 4), "mlp.c_proj.weight": (4, 8)}, "may both be outputs"),
        ({"mlp.up_proj.weight": (8, 4), "conv.dense.weight": (4, 4)}, "mlp.up_proj is known, and no output beside"),
    ],
)  # fmt: skip
def test_outputs_are_known_or_the_layer_is_refused(more: dict[str, tuple[int, ...]], said: str) -> None:
    if said:
        with pytest.raises(Unknown, match=said):
            outputs(ATTENTION | more)
    else:
        found = {"attn.o_proj.weight", "attn.o_proj.bias", *(name for name in more if "down_proj" in name)}
        assert outputs(ATTENTION | more) == found
        assert outputs(ATTENTION | more, ["attn.o_proj", "down_proj"]) == found


@pytest.mark.parametrize(
    "config",
    [BlockExpansionConfig(every=0), BlockExpansionConfig(groups=2, every=2), BlockExpansionConfig(every=2, copies=3)],
)
def test_settings_that_mean_nothing(config: BlockExpansionConfig) -> None:
    assert len(list(config.check())) == 1
