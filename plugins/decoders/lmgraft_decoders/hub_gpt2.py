"""GPT-2's settings as a transformers ``config.json`` of ``GPT2LMHeadModel``, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lmgraft.errors import Problem, UserError

from lmgraft_decoders.hub import NORM_KEY, missing, told

if TYPE_CHECKING:
    from lmgraft_decoders.plugin import Gpt2Config

__all__ = ["read", "write"]

NAMES = {"layers": "n_layer", "hidden": "n_embd", "heads": "n_head"}
#: The tanh approximation of GELU under transformers' two names for it.
GELU = ("gelu_new", "gelu_pytorch_tanh")


def write(config: Gpt2Config, vocab_size: int) -> dict[str, Any]:
    """``config.json`` for these settings. Token ids are null: they are the tokenizer's."""
    written: dict[str, Any] = {
        "activation_function": "gelu_new",
        "add_cross_attention": False,
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.0,
        "bos_token_id": None,
        "dtype": "float32",
        "embd_pdrop": 0.0,
        "eos_token_id": None,
        "initializer_range": 0.02,
        "layer_norm_epsilon": config.norm_eps,
        "model_type": "gpt2",
        "n_embd": config.hidden,
        "n_head": config.heads,
        "n_inner": config.mlp,
        "n_layer": config.layers,
        "n_positions": config.context,
        "pad_token_id": None,
        "resid_pdrop": 0.0,
        "scale_attn_by_inverse_layer_idx": False,
        "scale_attn_weights": True,
        "tie_word_embeddings": config.tied,
        "torch_dtype": "float32",
        "use_cache": True,
        "vocab_size": vocab_size,
    }
    if config.norm.value != "layernorm":
        written[NORM_KEY] = config.norm.value
    return written


def read(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Field -> value for ``Gpt2Config``; None where ``model_type`` is not ``gpt2``.

    Dropout is not read: it is a matter of training, and lmgraft's is its own. Raises UserError, one problem each:
    sizes that are missing, switches that are not built here.
    """
    if config.get("model_type") != "gpt2":
        return None
    problems = [*missing(config, NAMES.values(), "a GPT-2"), *_unsupported(config)]
    if problems:
        raise UserError(problems)
    values = {field: int(config[name]) for field, name in NAMES.items()}
    return {
        **values,
        "mlp": int(told(config.get("n_inner"), 4 * values["hidden"])),
        "context": int(told(config.get("n_positions"), 1024)),
        "norm": str(config.get(NORM_KEY) or "layernorm"),
        "norm_eps": float(told(config.get("layer_norm_epsilon"), 1e-5)),
        "tied": bool(config.get("tie_word_embeddings", True)),
    }


def _unsupported(config: Mapping[str, Any]) -> Iterator[Problem]:
    usual: dict[str, tuple[Any, ...]] = {
        "activation_function": (*GELU, None),
        "scale_attn_weights": (True, None),
        "scale_attn_by_inverse_layer_idx": (False, None),
        "add_cross_attention": (False, None),
        NORM_KEY: ("layernorm", "none", None),
    }
    for name, values in usual.items():
        if config.get(name) not in values:
            cause = "the gpt2 architecture of lmgraft does not have that switch"
            yield Problem(f"config.json sets {name} to {config[name]}", cause, "use a GPT-2 checkpoint without it")
