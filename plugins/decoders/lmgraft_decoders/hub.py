"""Llama's settings as a transformers ``config.json`` of ``LlamaForCausalLM``, and back.

Written so that transformers 4 (``rope_theta``, ``torch_dtype``) and 5 (``rope_parameters``, ``dtype``) both load it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lmgraft.errors import Problem, UserError

if TYPE_CHECKING:
    from lmgraft_decoders.plugin import LlamaConfig

__all__ = ["NORM_KEY", "missing", "read", "told", "write"]

#: Not a key of transformers: only lmgraft can build these models without norms.
NORM_KEY = "lmgraft_norm"

NAMES = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "mlp": "intermediate_size",
}
#: The values that transformers takes where the file is silent.
DEFAULTS = {"context": 2048, "norm_eps": 1e-6, "rope_theta": 10_000.0}


def write(config: LlamaConfig, vocab_size: int) -> dict[str, Any]:
    """``config.json`` for these settings. Token ids are null: they are the tokenizer's."""
    written: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "dtype": "float32",
        "eos_token_id": None,
        "head_dim": config.hidden // config.heads,
        "hidden_act": "silu",
        "hidden_size": config.hidden,
        "initializer_range": 0.02,
        "intermediate_size": config.mlp,
        "max_position_embeddings": config.context,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers,
        "num_key_value_heads": config.kv_heads,
        "pad_token_id": None,
        "rms_norm_eps": config.norm_eps,
        "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "default"},
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tied,
        "torch_dtype": "float32",
        "use_cache": True,
        "vocab_size": vocab_size,
    }
    if config.norm.value != "rmsnorm":
        written[NORM_KEY] = config.norm.value
    return written


def read(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Field -> value for ``LlamaConfig``; None where ``model_type`` is not ``llama``.

    Raises UserError, one problem each: sizes that are missing, switches that are not built here.
    """
    if config.get("model_type") != "llama":
        return None
    problems = [*missing(config, NAMES.values(), "a Llama"), *_unsupported(config)]
    if problems:
        raise UserError(problems)
    values = {field: int(config[name]) for field, name in NAMES.items()}
    values["kv_heads"] = int(config.get("num_key_value_heads") or config["num_attention_heads"])
    values["context"] = int(told(config.get("max_position_embeddings"), DEFAULTS["context"]))
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = told(rope.get("rope_theta"), told(config.get("rope_theta"), DEFAULTS["rope_theta"]))
    return {
        **values,
        "rope_theta": float(theta),
        "norm": str(config.get(NORM_KEY) or "rmsnorm"),
        "norm_eps": float(told(config.get("rms_norm_eps"), DEFAULTS["norm_eps"])),
        "tied": bool(config.get("tie_word_embeddings", False)),
    }


def told(value: Any, default: Any) -> Any:
    """The value, or the default where the file is silent."""
    return default if value is None else value


def missing(config: Mapping[str, Any], names: Iterable[str], what: str) -> Iterator[Problem]:
    """A problem for each size that is not there, or is no whole number above 0."""
    for name in names:
        value = config.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            cause = f"{what} cannot be built without it" if value is None else f"it is {value!r}, not a whole number"
            yield Problem(f"config.json gives no {name}", cause, "take config.json from where the weights came from")


def _unsupported(config: Mapping[str, Any]) -> Iterator[Problem]:
    heads, hidden = config.get("num_attention_heads"), config.get("hidden_size")
    width = hidden // heads if isinstance(heads, int) and isinstance(hidden, int) and heads > 0 else None
    found = {
        "rope_scaling": _rope_kind(config.get("rope_scaling")),
        "rope_parameters": _rope_kind(config.get("rope_parameters")),
        "partial_rotary_factor": _unless(told(config.get("partial_rotary_factor"), 1.0), 1.0),
        "attention_bias": config.get("attention_bias") or None,
        "mlp_bias": config.get("mlp_bias") or None,
        "hidden_act": _unless(config.get("hidden_act", "silu"), "silu", "swish"),
        "head_dim": _unless(config.get("head_dim"), width, None),
        NORM_KEY: _unless(config.get(NORM_KEY), "rmsnorm", "none", None),
    }
    for name, value in found.items():
        if value is not None:
            cause = "the llama architecture of lmgraft does not have that switch"
            yield Problem(f"config.json sets {name} to {value}", cause, "use a Llama checkpoint without it")


def _rope_kind(rope: Any) -> Any:
    """The kind of rotary positions where it is not the plain one; transformers 4 also wrote it as ``type``."""
    kind = told(rope.get("rope_type"), rope.get("type")) if isinstance(rope, Mapping) else rope
    return _unless(kind, None, "default")


def _unless(value: Any, *usual: Any) -> Any:
    return None if value in usual else value
