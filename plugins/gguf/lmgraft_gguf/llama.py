"""Llama, Mistral, Qwen-2 and Mixtral for llama.cpp.

llama.cpp's ``llama`` turns neighbouring numbers of a head together, Hugging Face's the first half with the second: rows
of queries and keys change their order (``undo_permute`` of llama.cpp's converter), and their biases alike. ``qwen2``
turns as Hugging Face does. A Qwen-2 with what only ``llama`` knows (stretched wavelengths, heads of another width) is
written as a ``llama``, which computes the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from lmgraft.errors import Problem, UserError

from lmgraft_gguf.families import Builder, Family, Value, layers, refuse
from lmgraft_gguf.tensors import Floats, Part
from lmgraft_gguf.values import Config, number, real, rope

__all__ = ["build", "rope_factors"]

_MLP = {"gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}
#: Mixtral's own names: w1 is the gate, w3 goes beside it.
_EXPERT = {"w1": "ffn_gate_exps", "w3": "ffn_up_exps", "w2": "ffn_down_exps"}


def build(config: Config, take: Builder) -> Family:
    """:raises UserError: a switch that llama.cpp lacks, or a tensor that is missing or of another shape."""
    hidden, heads = number(config, "hidden_size"), number(config, "num_attention_heads")
    width = number(config, "head_dim", default=max(1, hidden // heads))
    stretch = _rope(config, take)
    activation = config.get("hidden_act", "silu")
    if activation not in ("silu", "swish"):
        raise refuse(take.where, f"hidden_act is {activation!r}", "llama.cpp computes silu in this family")
    qwen = config["model_type"] == "qwen2" and heads * width == hidden and stretch["rope_type"] != "llama3"
    family = Family("qwen2" if qwen else "llama", _settings(config, width, stretch))
    if stretch["rope_type"] == "llama3":
        factors = rope_factors(stretch, width, number(config, "max_position_embeddings", default=2048))
        take.add("rope_freqs.weight", Part(None, values=factors))
    take.take("model.embed_tokens", "token_embd", (None, hidden))
    for layer in layers(config, "num_hidden_layers"):
        _layer(config, take, layer, width, turned=not qwen)
    take.take("model.norm", "output_norm", (hidden,))
    take.head(hidden, tied=bool(config.get("tie_word_embeddings", False)))
    take.end(".rotary_emb.inv_freq")
    family.tensors = take.tensors
    return family


def _layer(config: Config, take: Builder, layer: int, width: int, *, turned: bool) -> None:
    source, name = f"model.layers.{layer}", f"blk.{layer}"
    hidden, heads = number(config, "hidden_size"), number(config, "num_attention_heads")
    groups, mlp = number(config, "num_key_value_heads", default=heads), number(config, "intermediate_size")
    take.take(f"{source}.input_layernorm", f"{name}.attn_norm", (hidden,))
    for letter, count in (("q", heads), ("k", groups)):
        order = partial(_turned, count, width) if turned else None
        take.take(f"{source}.self_attn.{letter}_proj", f"{name}.attn_{letter}", (count * width, hidden), order=order)
    take.take(f"{source}.self_attn.v_proj", f"{name}.attn_v", (groups * width, hidden))
    take.take(f"{source}.self_attn.o_proj", f"{name}.attn_output", (hidden, heads * width))
    take.take(f"{source}.post_attention_layernorm", f"{name}.ffn_norm", (hidden,))
    if config["model_type"] != "mixtral":
        for ours, theirs in _MLP.items():
            take.take(
                f"{source}.mlp.{ours}", f"{name}.{theirs}", (hidden, mlp) if ours == "down_proj" else (mlp, hidden)
            )
        return
    experts = number(config, "num_local_experts")
    take.take(f"{source}.block_sparse_moe.gate", f"{name}.ffn_gate_inp", (experts, hidden))
    for ours, theirs in _EXPERT.items():
        sources = (f"{source}.block_sparse_moe.experts.{expert}.{ours}" for expert in range(experts))
        take.stack(sources, f"{name}.{theirs}", (hidden, mlp) if ours == "w2" else (mlp, hidden))


def _turned(heads: int, width: int) -> list[int]:
    """Row of llama.cpp's -> row of Hugging Face's: (head, half, i) becomes (head, i, half)."""
    rows = np.arange(heads * width).reshape(heads, 2, width // 2).swapaxes(1, 2)
    found: list[int] = rows.reshape(-1).tolist()
    return found


def _settings(config: Config, width: int, stretch: Mapping[str, Any]) -> dict[str, Value]:
    heads = number(config, "num_attention_heads")
    context = number(config, "max_position_embeddings", default=2048)
    if config.get("use_sliding_window", config["model_type"] != "qwen2"):
        # llama.cpp sees all tokens in this family, which is the same as long as the window holds them.
        context = min(context, number(config, "sliding_window", default=context))
    found: dict[str, Value] = {
        "vocab_size": number(config, "vocab_size"),
        "context_length": context,
        "embedding_length": number(config, "hidden_size"),
        "block_count": number(config, "num_hidden_layers"),
        "feed_forward_length": number(config, "intermediate_size"),
        "attention.head_count": heads,
        "attention.head_count_kv": number(config, "num_key_value_heads", default=heads),
        "attention.key_length": width,
        "attention.value_length": width,
        "attention.layer_norm_rms_epsilon": real(config, "rms_norm_eps", 1e-6),
        "rope.dimension_count": width,
        "rope.freq_base": float(stretch["rope_theta"]),
    }
    if stretch["rope_type"] == "linear":
        found |= {"rope.scaling.type": "linear", "rope.scaling.factor": real(stretch, "factor", None)}
    if config["model_type"] == "mixtral":
        found["expert_count"] = number(config, "num_local_experts")
        found["expert_used_count"] = number(config, "num_experts_per_tok")
    return found


def _rope(config: Config, take: Builder) -> dict[str, Any]:
    stretch = rope(config, 1_000_000.0 if config["model_type"] == "mixtral" else 10_000.0)
    if stretch["rope_type"] not in ("default", "linear", "llama3"):
        fact = f"its rotary positions are stretched by {stretch['rope_type']!r}"
        raise refuse(take.where, fact, "the exporter gguf knows linear and llama3")
    share = stretch.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
    if share != 1.0:
        fact = f"only {share} of each head is turned (partial_rotary_factor)"
        raise refuse(take.where, fact, "llama.cpp turns whole heads in this family")
    return stretch


def rope_factors(stretch: Mapping[str, Any], width: int, longest: int) -> Floats:
    """What llama.cpp divides each frequency by: Llama 3.1's stretching of long wavelengths (transformers'
    ``_compute_llama3_parameters``), (width / 2,). ``longest``: the context before, where it is not told."""
    base, factor = float(stretch["rope_theta"]), real(stretch, "factor", None)
    low, high = real(stretch, "low_freq_factor", 1.0), real(stretch, "high_freq_factor", 4.0)
    if not high > low:
        cause = f"it must be above low_freq_factor ({low:g})"
        remedy = "take config.json from where the weights came from"
        raise UserError(Problem(f"config.json sets high_freq_factor to {high:g}", cause, remedy))
    context = real(stretch, "original_max_position_embeddings", float(longest))
    waves = 2 * math.pi * base ** (np.arange(0, width, 2, dtype=np.float64) / width)
    smooth = (context / waves - low) / (high - low)
    between = 1 / ((1 - smooth) / factor + smooth)
    found = np.where(waves < context / high, 1.0, np.where(waves > context / low, factor, between))
    return found.astype(np.float32)
