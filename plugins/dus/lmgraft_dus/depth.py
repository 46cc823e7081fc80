"""What ``config.json`` says of a model's layers, and what it must say of the up-scaled one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["DEPTH_KEYS", "order", "unstackable", "upscaled_config"]

#: The number of layers, in the words of the families.
DEPTH_KEYS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")

#: Lists of numbers of layers.
_NUMBERS = ("mlp_only_layers", "attn_layer_indices", "full_attn_idxs", "cross_attention_layers")
#: A letter a layer.
_LETTERS = ("hybrid_override_pattern",)
#: Every so many layers one is of another kind.
_ATTENTION_PERIODS = ("attn_layer_period", "full_attention_interval", "sliding_window_pattern")
_PERIODS = ("decoder_sparse_step", "expert_layer_period", "interleave_moe_layer_step", "moe_layer_freq")
#: The first or the last so many are of another kind.
_FIRST = ("first_k_dense_replace",)
_LAST = ("num_kv_shared_layers",)


def order(layers: int, drop: int) -> list[int]:
    """Layer j of the result is layer ``order[j]`` of the original."""
    return [*range(layers - drop), *range(drop, layers)]


def upscaled_config(config: Mapping[str, Any], layers: int, drop: int) -> dict[str, Any]:
    """``config.json`` of the result: its depth, and whatever is told layer by layer (``layer_types``) stacked alike."""
    stacked = order(layers, drop)
    found = {}
    for key, value in config.items():
        if key in DEPTH_KEYS and value == layers:
            found[key] = len(stacked)
        elif key in _NUMBERS and isinstance(value, list):
            found[key] = [new for new, old in enumerate(stacked) if old in value]
        elif key in _LETTERS and isinstance(value, str) and len(value) == layers:
            found[key] = "".join(value[old] for old in stacked)
        elif _by_layer(key, value, layers):
            found[key] = [value[old] for old in stacked]
        else:
            found[key] = value
    return found


def unstackable(config: Mapping[str, Any], layers: int, drop: int) -> tuple[str, int, int] | None:
    """A setting by which a layer's number decides its kind, with a new number and the old one of which it is; None
    where every layer stays what it is."""
    stacked = order(layers, drop)
    listed = _by_layer("layer_types", config.get("layer_types"), layers)  # what is listed counts, not what recurs
    for key in (*_PERIODS, *(() if listed else _ATTENTION_PERIODS), *_FIRST, *_LAST):
        value = config.get(key)
        if isinstance(value, int) and value > 0:
            for new, old in enumerate(stacked):
                if _kind(key, value, new, len(stacked)) != _kind(key, value, old, layers):
                    return f"{key}={value}", new, old
    return None


def _kind(key: str, value: int, number: int, layers: int) -> Any:
    if key in _FIRST:
        return number < value
    if key in _LAST:
        return number >= layers - value
    return number % value


def _by_layer(key: str, value: Any, layers: int) -> bool:
    """Is it a list with an entry for each layer? Ids of tokens may be as many by chance."""
    plain = isinstance(value, Sequence) and not isinstance(value, str)
    return plain and len(value) == layers and not key.endswith(("_id", "_ids", "architectures"))
