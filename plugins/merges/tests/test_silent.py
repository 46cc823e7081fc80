"""Models whose config.json leaves out what is usual in their family, and those that differ in what it tells."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from lmgraft.artifacts import checkpoint
from lmgraft.errors import UserError
from lmgraft_merges.linear import Linear
from lmgraft_merges.plugin import LinearConfig, TiesConfig
from lmgraft_merges.ties import Ties

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 40}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
MODELS = {
    "llama": transformers.LlamaConfig(**SIZES, intermediate_size=24, rope_parameters=LLAMA3),
    "gpt2": transformers.GPT2Config(n_embd=16, n_layer=2, n_head=4, vocab_size=40, n_positions=16),
    "falcon": transformers.FalconConfig(**SIZES, new_decoder_architecture=True, num_kv_heads=1),
    "bloom": transformers.BloomConfig(hidden_size=16, n_layer=2, n_head=4, vocab_size=40),
}


def pair(folder: Path, family: str, **changes: object) -> list[Path]:
    """A model, and the same one with another config.json; ``...`` leaves a key out."""
    first, second = folder / "a", folder / "b"
    transformers.AutoModelForCausalLM.from_config(MODELS[family]).save_pretrained(first)
    shutil.copytree(first, second)
    file = second / "config.json"
    config = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))
    return [first, second]


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {"head_dim": ..., "num_key_value_heads": ..., "hidden_act": ..., "tie_word_embeddings": ...}),
        ("llama", {"hidden_act": "swish"}),
        ("gpt2", {"tie_word_embeddings": ..., "activation_function": ...}),
        ("falcon", {"tie_word_embeddings": ..., "alibi": ..., "parallel_attn": ...}),
        ("bloom", {"tie_word_embeddings": ...}),
    ],
)
def test_what_is_usual_need_not_be_told(tmp_path, family, changes):
    models = pair(tmp_path, family, **changes)
    Linear(LinearConfig()).merge(models, tmp_path / "out")
    before, after = (dict(checkpoint.tensors(folder)) for folder in (models[0], tmp_path / "out"))
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name], after[name], atol=1e-7) for name in before)


@pytest.mark.parametrize(
    ("family", "changes", "told"),
    [
        (
            "llama",
            {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
            "kind is llama3 in the one and none",
        ),
        ("llama", {"rope_parameters": {**LLAMA3, "factor": 4.0}}, "rope_scaling.factor is 8.0 in the one and 4.0"),
        ("falcon", {"num_kv_heads": 4}, "kv_heads is 1 in the one and 4 in the other"),
        ("gpt2", {"tie_word_embeddings": False}, "head of its own"),
    ],
)
def test_what_means_something_else_is_told(tmp_path, family, changes, told):
    with pytest.raises(UserError, match=told):
        Linear(LinearConfig()).merge(pair(tmp_path, family, **changes), tmp_path / "out")


def test_torch_is_not_needed(tmp_path):
    models = [str(folder) for folder in pair(tmp_path, "llama")]
    code = (
        "import sys, lmgraft.cli\n"
        "try: lmgraft.cli.main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code, end\n"
        "assert 'torch' not in sys.modules\nprint('looked')"
    )
    asked = [sys.executable, "-c", code, "merge", "linear", *models, str(tmp_path / "out")]
    done = subprocess.run(asked, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "looked"


def test_the_smallest_density_keeps_one_change_of_a_tensor(tmp_path):
    """mergekit's ``max(1, int(density * elements))``; 0 keeps none."""
    models = pair(tmp_path, "llama")
    state = {name: tensor.clone() for name, tensor in checkpoint.tensors(models[0]).items()}
    generator = torch.Generator().manual_seed(0)
    moved = {name: tensor + torch.randn(tensor.shape, generator=generator) for name, tensor in state.items()}
    checkpoint.write(models[1], moved, checkpoint.read_config(models[1]))
    for density, kept in ((1e-6, 1), (0.0, 0)):
        settings = TiesConfig(density=density)
        Ties(settings).merge(models, tmp_path / f"out-{kept}")
        made = dict(checkpoint.tensors(tmp_path / f"out-{kept}"))
        assert {name: int((made[name] != state[name]).sum()) for name in state} == dict.fromkeys(state, kept)
