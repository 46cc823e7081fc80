"""GPT-2, Falcon and BLOOM for llama.cpp."""

from __future__ import annotations

import numpy as np

from lmgraft_gguf.families import Builder, Config, Family, layers, number, refuse

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
    take.take("wte", "token_embd")
    take.take("wpe", "position_embd")
    for layer in layers(config, "n_layer"):
        source, name = f"h.{layer}", f"blk.{layer}"
        take.take(f"{source}.ln_1", f"{name}.attn_norm")
        take.take(f"{source}.attn.c_attn", f"{name}.attn_qkv", transposed=True)
        take.take(f"{source}.attn.c_proj", f"{name}.attn_output", transposed=True)
        take.take(f"{source}.ln_2", f"{name}.ffn_norm")
        take.take(f"{source}.mlp.c_fc", f"{name}.ffn_up", transposed=True)
        take.take(f"{source}.mlp.c_proj", f"{name}.ffn_down", transposed=True)
    take.take("ln_f", "output_norm")
    take.head(tied=bool(config.get("tie_word_embeddings", True)))
    take.end(".attn.bias", ".attn.masked_bias")  # the causal mask, which old files hold
    settings: dict[str, str | int | float | bool] = {
        "context_length": number(config, "n_positions", "n_ctx"),
        "embedding_length": hidden,
        "block_count": number(config, "n_layer"),
        "feed_forward_length": int(config.get("n_inner") or 4 * hidden),
        "attention.head_count": heads,
        "attention.layer_norm_epsilon": float(config.get("layer_norm_epsilon") or 1e-5),
    }
    return Family("gpt2", settings, take.tensors)


def falcon(config: Config, take: Builder) -> Family:
    """Queries, keys and values lie group by group in Hugging Face's matrix, and each kind by itself in llama.cpp's."""
    hidden, heads = number(config, "hidden_size"), number(config, "num_attention_heads", "n_head")
    fresh = bool(config.get("new_decoder_architecture"))
    groups = int(config.get("num_kv_heads") or heads) if fresh else 1
    for switch, wrong, cause in (
        ("alibi", True, "llama.cpp's falcon turns queries and keys (rotary positions)"),
        ("bias", True, "llama.cpp's falcon has no biases beside those of norms"),
    ):
        if config.get(switch, False) is wrong:
            raise refuse(take.where, f"{switch} is {wrong}", cause)
    if not fresh and not (config.get("multi_query", True) and config.get("parallel_attn", True)):
        cause = "llama.cpp's falcon has attention and MLP side by side, and one head of keys where it is no new decoder"
        raise refuse(take.where, "multi_query or parallel_attn is false", cause)
    order = _grouped(heads, groups, hidden // heads)
    take.prefix = "transformer."
    take.take("word_embeddings", "token_embd")
    for layer in layers(config, "num_hidden_layers", "n_layer"):
        source, name = f"h.{layer}", f"blk.{layer}"
        if take.has(f"{source}.ln_attn"):
            take.take(f"{source}.ln_mlp", f"{name}.attn_norm")
            take.take(f"{source}.ln_attn", f"{name}.attn_norm_2")
        else:
            take.take(f"{source}.input_layernorm", f"{name}.attn_norm")
        take.take(f"{source}.self_attention.query_key_value", f"{name}.attn_qkv", order=order)
        take.take(f"{source}.self_attention.dense", f"{name}.attn_output")
        take.take(f"{source}.mlp.dense_h_to_4h", f"{name}.ffn_up")
        take.take(f"{source}.mlp.dense_4h_to_h", f"{name}.ffn_down")
    take.take("ln_f", "output_norm")
    take.head(tied=bool(config.get("tie_word_embeddings", True)))
    take.end()
    settings: dict[str, str | int | float | bool] = {
        "context_length": int(config.get("max_position_embeddings") or 2048),
        "tensor_data_layout": "jploski",  # each kind of head by itself
        "embedding_length": hidden,
        "feed_forward_length": int(config.get("ffn_hidden_size") or 4 * hidden),
        "block_count": number(config, "num_hidden_layers", "n_layer"),
        "attention.head_count": heads,
        "attention.head_count_kv": groups,
        "attention.layer_norm_epsilon": float(config.get("layer_norm_epsilon") or 1e-5),
        "rope.freq_base": _theta(config, take),
    }
    return Family("falcon", settings, take.tensors)


def _grouped(heads: int, groups: int, width: int) -> list[int]:
    """Rows of (group, its queries and a key and a value, width) as all queries, all keys, all values."""
    rows = np.arange((heads + 2 * groups) * width).reshape(groups, heads // groups + 2, width)
    kinds = (rows[:, :-2], rows[:, -2], rows[:, -1])
    found: list[int] = np.concatenate([kind.reshape(-1) for kind in kinds]).tolist()
    return found


def _theta(config: Config, take: Builder) -> float:
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind != "default":
        raise refuse(take.where, f"its rotary positions are stretched by {kind!r}", "llama.cpp's falcon has them plain")
    return float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0)


def bloom(config: Config, take: Builder) -> Family:
    """Queries, keys and values lie head by head in Hugging Face's matrix, and each kind by itself in llama.cpp's."""
    hidden = number(config, "hidden_size", "n_embed")
    heads = number(config, "n_head", "num_attention_heads")
    if config.get("apply_residual_connection_post_layernorm"):
        cause = "llama.cpp's bloom adds what came in before the norm"
        raise refuse(take.where, "apply_residual_connection_post_layernorm is true", cause)
    rows = np.arange(3 * hidden).reshape(heads, 3, hidden // heads).swapaxes(0, 1)
    order: list[int] = rows.reshape(-1).tolist()
    take.prefix = "transformer." if "transformer.word_embeddings.weight" in take.pieces else ""
    take.take("word_embeddings", "token_embd")
    take.take("word_embeddings_layernorm", "token_embd_norm")
    for layer in layers(config, "n_layer", "num_hidden_layers"):
        source, name = f"h.{layer}", f"blk.{layer}"
        take.take(f"{source}.input_layernorm", f"{name}.attn_norm")
        take.take(f"{source}.self_attention.query_key_value", f"{name}.attn_qkv", order=order)
        take.take(f"{source}.self_attention.dense", f"{name}.attn_output")
        take.take(f"{source}.post_attention_layernorm", f"{name}.ffn_norm")
        take.take(f"{source}.mlp.dense_h_to_4h", f"{name}.ffn_up")
        take.take(f"{source}.mlp.dense_4h_to_h", f"{name}.ffn_down")
    take.take("ln_f", "output_norm")
    take.head(tied=bool(config.get("tie_word_embeddings", True)))
    take.end()
    settings: dict[str, str | int | float | bool] = {
        "context_length": int(config.get("seq_length") or 2048),
        "embedding_length": hidden,
        "feed_forward_length": 4 * hidden,
        "block_count": number(config, "n_layer", "num_hidden_layers"),
        "attention.head_count": heads,
        "attention.head_count_kv": heads,
        "attention.layer_norm_epsilon": float(config.get("layer_norm_epsilon") or 1e-5),
    }
    return Family("bloom", settings, take.tensors)
