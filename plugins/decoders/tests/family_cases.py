"""One tiny model of each family as transformers makes it, with random weights, and the same one loaded here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from lmgraft.artifacts import checkpoint
from lmgraft.loading import architecture_for
from lmgraft.seams.architecture import Architecture
from lmgraft.training import weights
from torch import nn

__all__ = ["CASES", "Pair", "V", "all_logits", "folder_of", "pair", "reference", "tokens"]

V = 61
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": V}
LLAMA = {**SIZES, "intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 64}
FALCON = {**SIZES, "ffn_hidden_size": 48, "max_position_embeddings": 64}
BLOOM = {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": V}
MIXTRAL = {**LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip

#: Name -> transformers' class without its ending, and its settings.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 48, "n_positions": 64, "vocab_size": V}),
    "llama": ("Llama", {**LLAMA, "rms_norm_eps": 1e-3}),
    "llama 3.1": ("Llama", {**LLAMA, "rope_parameters": LLAMA3, "tie_word_embeddings": True}),
    "llama, linear": ("Llama", {**LLAMA, "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 3.0}}),
    "llama, biased": ("Llama", {**LLAMA, "attention_bias": True, "mlp_bias": True, "head_dim": 12}),
    "mistral": ("Mistral", {**LLAMA, "sliding_window": 5, "head_dim": 16}),
    "mistral 0.3": ("Mistral", {**LLAMA, "sliding_window": None}),
    "qwen2": ("Qwen2", {**LLAMA, "tie_word_embeddings": True}),
    "qwen2, windowed": ("Qwen2", {**LLAMA, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 0}),
    "falcon 7b": ("Falcon", FALCON),
    "falcon 40b": ("Falcon", {**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon 11b": (
        "Falcon",
        {
            **FALCON, "new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1, "bias": True,
            "tie_word_embeddings": False,
        },
    ),
    "falcon, a key each": ("Falcon", {**FALCON, "multi_query": False, "parallel_attn": False, "bias": True}),
    "bloom": ("Bloom", BLOOM),
    "bloom, 6 heads": ("Bloom", {**BLOOM, "hidden_size": 48, "n_head": 6, "tie_word_embeddings": False}),
    "mixtral": ("Mixtral", MIXTRAL),
    "mixtral, windowed": ("Mixtral", {**MIXTRAL, "sliding_window": 5, "head_dim": 12, "tie_word_embeddings": True}),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pair:
    """A model of transformers, and the one that lmgraft made of its files."""

    theirs: Any
    ours: nn.Module
    architecture: Architecture
    folder: Path


def reference(name: str) -> Any:
    """transformers' model, its weights large enough that attention, every bias, every norm and the router matter."""
    transformers = pytest.importorskip("transformers")
    kind, values = CASES[name]
    config = getattr(transformers, f"{kind}Config")(**values, attn_implementation="eager")
    model = getattr(transformers, f"{kind}LMHeadModel" if kind == "GPT2" else f"{kind}ForCausalLM")(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            gain = key.endswith("weight") and ("norm" in key or "ln_" in key)
            parameter.normal_(1.0 if gain else 0.0, 0.2, generator=generator)
    return model


def folder_of(name: str, theirs: Any, place: Path) -> Path:
    """What ``save_pretrained`` writes, in several files."""
    folder = place / name.replace(" ", "_").replace(",", "")
    theirs.save_pretrained(folder, max_shard_size="10KB")
    return folder


def pair(name: str, place: Path) -> Pair:
    theirs = reference(name)
    folder = folder_of(name, theirs, place)
    assert len(list(folder.glob("*.safetensors"))) > 1
    architecture = architecture_for(folder)
    module = weights.materialise(architecture, V, "cpu")
    weights.load_into(module, architecture, folder)
    assert checkpoint.read_config(folder)["vocab_size"] == V
    return Pair(theirs, module.eval(), architecture, folder)


def tokens(rows: int, length: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, V, (rows, length), generator=torch.Generator().manual_seed(seed))


def all_logits(module: nn.Module, ids: torch.Tensor, **given: Any) -> torch.Tensor:
    """(B, T, V), through the only door there is: log-probabilities and the logarithm of what divides them."""
    out = module(ids, targets=torch.arange(V).expand(*ids.shape, V), asks={"logprob", "logsumexp"}, **given)
    return out.logprob + out.logsumexp[..., None]
