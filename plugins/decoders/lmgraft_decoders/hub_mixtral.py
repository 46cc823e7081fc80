"""Mixtral's settings as a transformers ``config.json`` of ``MixtralForCausalLM``, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lmgraft_decoders import hub_rope
from lmgraft_decoders.config_checks import RmsNorm
from lmgraft_decoders.config_rope import Stretch
from lmgraft_decoders.hub import Reader, written

if TYPE_CHECKING:
    from lmgraft_decoders.config_mixtral import MixtralConfig

__all__ = ["read", "write"]


def write(config: MixtralConfig, vocab_size: int) -> dict[str, Any]:
    """``config.json`` for these settings."""
    values = {
        "attention_dropout": 0.0,
        "head_dim": config.spec().head_dim,
        "hidden_act": "silu",
        "hidden_size": config.hidden,
        "intermediate_size": config.mlp,
        "max_position_embeddings": config.context,
        "num_attention_heads": config.heads,
        "num_experts_per_tok": config.experts_per_token,
        "num_hidden_layers": config.layers,
        "num_key_value_heads": config.kv_heads,
        "num_local_experts": config.experts,
        "output_router_logits": False,
        "rms_norm_eps": config.norm_eps,
        "router_aux_loss_coef": config.expert_balance,
        "router_jitter_noise": 0.0,
        "sliding_window": config.window or None,
        "tie_word_embeddings": config.tied,
        **hub_rope.write(config.rope_theta, Stretch()),
    }
    return written("mixtral", "MixtralForCausalLM", vocab_size, config.norm.value, **values)


def read(make: type[MixtralConfig], config: Mapping[str, Any]) -> MixtralConfig | None:
    """The settings; None where ``model_type`` is not ``mixtral``.

    Noise on the router's input is not read, as dropout is not: it is a matter of training. Raises UserError, one
    problem each: sizes that are missing or damaged, switches that are not built here.
    """
    if config.get("model_type") not in make.model_types:
        return None
    reader = Reader(config, "mixtral")
    reader.one_of("hidden_act", "silu", "swish")
    heads = reader.whole("num_attention_heads")
    # A key that is null means as many as queries; one that is not there, the class's own number.
    kv_heads = heads if "num_key_value_heads" in config else 8
    values: dict[str, Any] = {
        "layers": reader.whole("num_hidden_layers"),
        "hidden": reader.whole("hidden_size"),
        "heads": heads,
        "kv_heads": reader.whole("num_key_value_heads", default=kv_heads),
        "head_dim": reader.whole("head_dim", default=0) or None,
        "mlp": reader.whole("intermediate_size"),
        "experts": reader.whole("num_local_experts", "num_experts", default=8),
        "experts_per_token": reader.whole("num_experts_per_tok", default=2),
        "expert_balance": reader.number("router_aux_loss_coef", 0.001, zero=True),
        "context": reader.whole("max_position_embeddings", default=131_072),
        "window": reader.whole("sliding_window", default=0),
        "rope_theta": hub_rope.refuse_scaling(reader, 1_000_000.0),
        "norm": RmsNorm(reader.norm("rmsnorm")),
        "norm_eps": reader.number("rms_norm_eps", 1e-5),
        "tied": reader.flag("tie_word_embeddings", False),
    }
    return reader.finish(lambda: make(**values))
