"""Slices of one and of several models: the bytes are theirs, and the config tells the truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from lmgraft.artifacts import checkpoint
from lmgraft.errors import UserError
from lmgraft.registry import build, registry
from lmgraft_merges.passthrough import Passthrough
from lmgraft_merges.plugin import PassthroughConfig


def llama(folder: Path, seed: int, layers: int = 4, **changes: Any) -> Path:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = transformers.LlamaConfig(**{**sizes, "vocab_size": 40, "num_hidden_layers": layers, **changes})
    transformers.LlamaForCausalLM(config).bfloat16().save_pretrained(folder)
    return folder


def test_slices_of_two_models(tmp_path: Path) -> None:
    models = [llama(tmp_path / "a", 0), llama(tmp_path / "b", 1, layers=6)]
    Passthrough(PassthroughConfig(slices=["0:3", "1@1:2", "1@4:6", "3:4", "1@0:1"])).merge(models, tmp_path / "out")
    before, after = [checkpoint.tensors(model) for model in models], checkpoint.tensors(tmp_path / "out")
    order = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 4), (1, 5), (0, 3), (1, 0)]
    for new, (model, old) in enumerate(order):
        names = [name for name in before[model] if name.startswith(f"model.layers.{old}.")]
        assert len(names) == 9
        for name in names:
            assert torch.equal(after[name.replace(f"layers.{old}.", f"layers.{new}.")], before[model][name])
    assert torch.equal(after["model.embed_tokens.weight"], before[0]["model.embed_tokens.weight"])
    for name in ("model.norm.weight", "lm_head.weight"):  # what lies behind is the last slice's model's
        assert torch.equal(after[name], before[1][name])
    assert len(after) == 8 * 9 + 3
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.num_hidden_layers == 8


def test_two_slices_of_one_model_are_depth_up_scaling(tmp_path: Path) -> None:
    model = llama(tmp_path / "in", 0, layers=6)
    Passthrough(PassthroughConfig(slices=["0:4", "2:6"])).merge([model], tmp_path / "out")
    dus = registry().get("merge", "dus").component
    build(dus, dus.config(drop=2)).merge([model], tmp_path / "dus")
    files = sorted(path.name for path in (tmp_path / "dus").iterdir())
    assert all((tmp_path / "out" / file).read_bytes() == (tmp_path / "dus" / file).read_bytes() for file in files)


def test_a_tied_head_and_gpt2s_names(tmp_path: Path) -> None:
    models = []
    for seed in range(2):
        torch.manual_seed(seed)
        config = transformers.GPT2Config(vocab_size=40, n_embd=16, n_layer=3, n_head=2, n_positions=32)
        transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / str(seed))
        models.append(tmp_path / str(seed))
    Passthrough(PassthroughConfig(slices=["0@1:3", "1@0:2"])).merge(models, tmp_path / "out")
    first, last = (checkpoint.tensors(model) for model in models)
    after = checkpoint.tensors(tmp_path / "out")
    assert torch.equal(after["transformer.wte.weight"], first["transformer.wte.weight"])
    assert torch.equal(after["transformer.wpe.weight"], first["transformer.wpe.weight"])
    assert torch.equal(after["transformer.h.3.mlp.c_proj.weight"], last["transformer.h.1.mlp.c_proj.weight"])
    assert transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "out").config.n_layer == 4


@pytest.mark.parametrize(
    ("slices", "other", "said"),
    [
        (["0:5"], None, "0:5 does not fit the layers of .*a\n.*it has 4, 0 to 3"),
        (["0:2", "2@0:2"], {}, "a slice of model 2\n.*2 models"),
        (["0:2"], {}, "nothing is taken of model 1"),
        (["0:2", "1@0:2"], {"intermediate_size": 32}, r"down_proj.weight is BF16 \[16, 24\] in the one and BF16 \["),
        (["0:2", "1@0:2"], {"num_attention_heads": 4, "head_dim": 8}, "num_attention_heads is 2 in the one and 4"),
        (["0:2", "1@0:2"], {"tie_word_embeddings": True}, "the head of one is its embedding"),
        (["0:2", "1@0:2"], {"attention_bias": True}, "only one of them has the tensor self_attn.k_proj.bias"),
        (["1:3"], {"decoder_sparse_step": 2, "alone": True}, "decoder_sparse_step=2 gives layers their kind"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(tmp_path: Path, slices: list[str], other: Any, said: str) -> None:
    models = [llama(tmp_path / "a", 0)]
    if other and other.pop("alone", False):
        config = checkpoint.read_config(models[0]) | other
        (models[0] / "config.json").write_text(json.dumps(config))
    elif other is not None:
        models.append(llama(tmp_path / "b", 1, **other))
    with pytest.raises(UserError, match=said) as caught:
        Passthrough(PassthroughConfig(slices=slices)).merge(models, tmp_path / "out")
    assert len(str(caught.value).splitlines()) == 3
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("slices", [[], ["0-4"], ["3:3"], ["a@0:2"], ["0:2", "4:1"]])
def test_settings_that_are_no_slices(slices: list[str]) -> None:
    assert len(list(PassthroughConfig(slices=slices).check())) == 1
