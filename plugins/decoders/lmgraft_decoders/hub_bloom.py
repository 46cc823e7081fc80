"""BLOOM's settings as a transformers ``config.json`` of ``BloomForCausalLM``, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lmgraft_decoders.config_checks import LayerNorm
from lmgraft_decoders.hub import Reader, written

if TYPE_CHECKING:
    from lmgraft_decoders.config_bloom import BloomConfig

__all__ = ["read", "write"]


def write(config: BloomConfig, vocab_size: int) -> dict[str, Any]:
    """``config.json`` for these settings. ``seq_length`` stands in the published files; transformers, which needs no
    such number, keeps it as it is."""
    values = {
        "apply_residual_connection_post_layernorm": False,
        "attention_dropout": 0.0,
        "hidden_dropout": 0.0,
        "hidden_size": config.hidden,
        "layer_norm_epsilon": config.norm_eps,
        "n_head": config.heads,
        "n_layer": config.layers,
        "pretraining_tp": 1,
        "seq_length": config.context,
        "slow_but_exact": False,
        "tie_word_embeddings": config.tied,
    }
    return written("bloom", "BloomForCausalLM", vocab_size, config.norm.value, **values)


def read(make: type[BloomConfig], config: Mapping[str, Any]) -> BloomConfig | None:
    """The settings; None where ``model_type`` is not ``bloom``.

    Raises UserError, one problem each: sizes that are missing or damaged, switches that are not built here.
    """
    if config.get("model_type") not in make.model_types:
        return None
    reader = Reader(config, "bloom")
    reader.one_of("apply_residual_connection_post_layernorm", False)
    values: dict[str, Any] = {
        "layers": reader.whole("n_layer", "num_hidden_layers"),
        "hidden": reader.whole("n_embed", "hidden_size"),
        "heads": reader.whole("n_head", "num_attention_heads"),
        "context": reader.whole("seq_length", default=2048),
        "norm": LayerNorm(reader.norm("layernorm")),
        "norm_eps": reader.number("layer_norm_epsilon", 1e-5),
        "tied": reader.flag("tie_word_embeddings", True),
    }
    return reader.finish(lambda: make(**values))
