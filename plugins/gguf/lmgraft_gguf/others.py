"""GPT-2, Falcon and BLOOM for llama.cpp."""

from __future__ import annotations

from functools import partial

import numpy as np
from lmgraft.errors import Problem, UserError

from lmgraft_gguf.families import Builder, Family, layers, refuse
from lmgraft_gguf.values import Config, number, real, rope

__all__ = ["bloom", "falcon", "gpt2"]

_TANH_GELU = ("gelu_new", "gelu_pytorch_tanh", None)


def gpt2(config: Config, take: Builder) -> Family:
    """Its matrices lie transposed in Hugging Face's files, queries, keys and values in one already."""
    activation = config.get("activation_function")
    if activation not in _TANH_GELU:
        raise refuse(take.where, f"activation_function is {activation!r}", "llama.cpp computes the tanh GELU here")
    for switch, usual in (("scale_attn_weights", True), ("scale_attn_by_inverse_layer_idx", False)):
        if config.get(switch, usual) is not usual:
            raise refuse(take.where, f"{switch} is {config[switch]}", "llama.cpp's gpt2 has no such switch")
    hidden, heads = number(config, "n_embd"), number(config, "n_head")
    take.prefix = "transformer." if take.pieces.keys() & {"transformer.wte.weight"} else ""
    context, mlp = number(config, "n_positions", "n_ctx"), number(config, "n_inner", default=4 * hidden)
    take.take("wte", "token_embd", (None, hidden))
    take.take("wpe", "position_embd", (context, hidden))
    for layer in layers(config, "n_layer"):
        source, name = f"h.{layer}", f"blk.{layer}"
        take.take(f"{source}.ln_1", f"{name}.attn_norm", (hidden,))
        take.take(f"{source}.attn.c_attn", f"{name}.attn_qkv", (hidden, 3 * hidden), transposed=True)
        take.take(f"{source}.attn.c_proj", f"{name}.attn_output", (hidden, hidden), transposed=True)
        take.take(f"{source}.ln_2", f"{name}.ffn_norm", (hidden,))
        take.take(f"{source}.mlp.c_fc", f"{name}.ffn_up", (hidden, mlp), transposed=True)
        take.take(f"{source}.mlp.c_proj", f"{name}.ffn_down", (mlp, hidden), transposed=True)
    take.take("ln_f", "output_norm", (hidden,))
    take.head(hidden, tied=bool(config.get("tie_word_embeddings", True)))
    take.end(".attn.bias", ".attn.masked_bias")  # the causal mask, which old files hold
    settings: dict[str, str | int | float | bool] = {
        "context_length": context,
        "embedding_length": hidden,
        "block_count": number(config, "n_layer"),
        "feed_forward_length": mlp,
        "attention.head_count": heads,
        "attention.layer_norm_epsilon": real(config, "layer_norm_epsilon", 1e-5),
    }
    return Family("gpt2", settings, take.tensors)


def falcon(config: Config, take: Builder) -> Family:
    """Queries, keys and values lie group by group in Hugging Face's matrix, and each kind by itself in llama.cpp's."""
    hidden, heads = number(config, "hidden_size"), number(config, "num_attention_heads", "n_head")
    fresh = bool(config.get("new_decoder_architecture"))
    groups = number(config, "num_kv_heads", default=heads) if fresh else 1
    for switch, wrong, cause in (
        ("alibi", True, "llama.cpp's falcon turns queries and keys (rotary positions)"),
        ("bias", True, "llama.cpp's falcon has no biases beside those of norms"),
    ):
        if config.get(switch, False) is wrong:
            raise refuse(take.where, f"{switch} is {wrong}", cause)
    if not fresh and not (config.get("multi_query", True) and config.get("parallel_attn", True)):
        cause = "llama.cpp's falcon has attention and MLP side by side, and one head of keys where it is no new decoder"
        raise refuse(take.where, "multi_query or parallel_attn is false", cause)
    width, mlp = _width(hidden, heads), number(config, "ffn_hidden_size", default=4 * hidden)
    order, rows = partial(_grouped, heads, groups, width), (heads + 2 * groups) * width
    if heads % groups:
        raise _uneven("num_kv_heads", groups, "num_attention_heads", heads)
    take.prefix = "transformer."
    take.take("word_embeddings", "token_embd", (None, hidden))
    for layer in layers(config, "num_hidden_layers", "n_layer"):
        source, name = f"h.{layer}", f"blk.{layer}"
        if take.has(f"{source}.ln_attn"):
            take.take(f"{source}.ln_mlp", f"{name}.attn_norm", (hidden,))
            take.take(f"{source}.ln_attn", f"{name}.attn_norm_2", (hidden,))
        else:
            take.take(f"{source}.input_layernorm", f"{name}.attn_norm", (hidden,))
        take.take(f"{source}.self_attention.query_key_value", f"{name}.attn_qkv", (rows, hidden), order=order)
        take.take(f"{source}.self_attention.dense", f"{name}.attn_output", (hidden, hidden))
        take.take(f"{source}.mlp.dense_h_to_4h", f"{name}.ffn_up", (mlp, hidden))
        take.take(f"{source}.mlp.dense_4h_to_h", f"{name}.ffn_down", (hidden, mlp))
    take.take("ln_f", "output_norm", (hidden,))
    take.head(hidden, tied=bool(config.get("tie_word_embeddings", True)))
    take.end()
    settings: dict[str, str | int | float | bool] = {
        "context_length": number(config, "max_position_embeddings", default=2048),
        "tensor_data_layout": "jploski",  # each kind of head by itself
        "embedding_length": hidden,
        "feed_forward_length": mlp,
        "block_count": number(config, "num_hidden_layers", "n_layer"),
        "attention.head_count": heads,
        "attention.head_count_kv": groups,
        "attention.layer_norm_epsilon": real(config, "layer_norm_epsilon", 1e-5),
        "rope.freq_base": _theta(config, take),
    }
    return Family("falcon", settings, take.tensors)


def _grouped(heads: int, groups: int, width: int) -> list[int]:
    """Rows of (group, its queries and a key and a value, width) as all queries, all keys, all values."""
    rows = np.arange((heads + 2 * groups) * width).reshape(groups, heads // groups + 2, width)
    kinds = (rows[:, :-2], rows[:, -2], rows[:, -1])
    found: list[int] = np.concatenate([kind.reshape(-1) for kind in kinds]).tolist()
    return found


def _width(hidden: int, heads: int) -> int:
    """Of a head."""
    if hidden % heads:
        raise _uneven("num_attention_heads", heads, "hidden_size", hidden)
    return hidden // heads


def _uneven(name: str, count: int, of: str, whole: int) -> UserError:
    cause = f"{of} ({whole}) is no multiple of it"
    return UserError(
        Problem(f"config.json sets {name} to {count}", cause, "take config.json from where the weights came from")
    )


def _theta(config: Config, take: Builder) -> float:
    told = rope(config)
    if told["rope_type"] != "default":
        fact = f"its rotary positions are stretched by {told['rope_type']!r}"
        raise refuse(take.where, fact, "llama.cpp's falcon has them plain")
    return float(told["rope_theta"])


def bloom(config: Config, take: Builder) -> Family:
    """Queries, keys and values lie head by head in Hugging Face's matrix, and each kind by itself in llama.cpp's."""
    hidden = number(config, "hidden_size", "n_embed")
    heads = number(config, "n_head", "num_attention_heads")
    if config.get("apply_residual_connection_post_layernorm"):
        cause = "llama.cpp's bloom adds what came in before the norm"
        raise refuse(take.where, "apply_residual_connection_post_layernorm is true", cause)
    order = partial(_grouped, heads, heads, _width(hidden, heads))
    rows, mlp = 3 * hidden, 4 * hidden
    take.prefix = "transformer." if "transformer.word_embeddings.weight" in take.pieces else ""
    take.take("word_embeddings", "token_embd", (None, hidden))
    take.take("word_embeddings_layernorm", "token_embd_norm", (hidden,))
    for layer in layers(config, "n_layer", "num_hidden_layers"):
        source, name = f"h.{layer}", f"blk.{layer}"
        take.take(f"{source}.input_layernorm", f"{name}.attn_norm", (hidden,))
        take.take(f"{source}.self_attention.query_key_value", f"{name}.attn_qkv", (rows, hidden), order=order)
        take.take(f"{source}.self_attention.dense", f"{name}.attn_output", (hidden, hidden))
        take.take(f"{source}.post_attention_layernorm", f"{name}.ffn_norm", (hidden,))
        take.take(f"{source}.mlp.dense_h_to_4h", f"{name}.ffn_up", (mlp, hidden))
        take.take(f"{source}.mlp.dense_4h_to_h", f"{name}.ffn_down", (hidden, mlp))
    take.take("ln_f", "output_norm", (hidden,))
    take.head(hidden, tied=bool(config.get("tie_word_embeddings", True)))
    take.end()
    settings: dict[str, str | int | float | bool] = {
        "context_length": number(config, "seq_length", default=2048),
        "embedding_length": hidden,
        "feed_forward_length": mlp,
        "block_count": number(config, "n_layer", "num_hidden_layers"),
        "attention.head_count": heads,
        "attention.head_count_kv": heads,
        "attention.layer_norm_epsilon": real(config, "layer_norm_epsilon", 1e-5),
    }
    return Family("bloom", settings, take.tensors)
