"""GPT-2's settings as a transformers ``config.json`` of ``GPT2LMHeadModel``, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lmgraft_decoders.config_checks import LayerNorm
from lmgraft_decoders.hub import Reader, written

if TYPE_CHECKING:
    from lmgraft_decoders.config_gpt2 import Gpt2Config

__all__ = ["read", "write"]


def write(config: Gpt2Config, vocab_size: int) -> dict[str, Any]:
    """``config.json`` for these settings."""
    values = {
        "activation_function": "gelu_new",
        "add_cross_attention": False,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "layer_norm_epsilon": config.norm_eps,
        "n_embd": config.hidden,
        "n_head": config.heads,
        "n_inner": config.mlp,
        "n_layer": config.layers,
        "n_positions": config.context,
        "resid_pdrop": 0.0,
        "scale_attn_by_inverse_layer_idx": False,
        "scale_attn_weights": True,
        "tie_word_embeddings": config.tied,
    }
    return written("gpt2", "GPT2LMHeadModel", vocab_size, config.norm.value, **values)


def read(make: type[Gpt2Config], config: Mapping[str, Any]) -> Gpt2Config | None:
    """The settings; None where ``model_type`` is not ``gpt2``.

    Dropout is not read: it is a matter of training, and lmgraft's is its own. Raises UserError, one problem each:
    sizes that are missing or damaged, switches that are not built here.
    """
    if config.get("model_type") not in make.model_types:
        return None
    reader = Reader(config, "gpt2")
    # The tanh approximation of GELU under transformers' two names for it.
    reader.one_of("activation_function", "gelu_new", "gelu_pytorch_tanh")
    reader.one_of("scale_attn_weights", True)
    reader.one_of("scale_attn_by_inverse_layer_idx", False)
    reader.one_of("add_cross_attention", False)
    hidden = reader.whole("n_embd", "hidden_size")
    values: dict[str, Any] = {
        "layers": reader.whole("n_layer", "num_hidden_layers"),
        "hidden": hidden,
        "heads": reader.whole("n_head", "num_attention_heads"),
        "mlp": reader.whole("n_inner", default=4 * hidden),
        "context": reader.whole("n_positions", "max_position_embeddings", default=1024),
        "norm": LayerNorm(reader.norm("layernorm")),
        "norm_eps": reader.number("layer_norm_epsilon", 1e-5),
        "tied": reader.flag("tie_word_embeddings", True),
    }
    return reader.finish(lambda: make(**values))
