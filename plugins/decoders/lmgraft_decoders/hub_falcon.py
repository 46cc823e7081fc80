"""Falcon's settings as a transformers ``config.json`` of ``FalconForCausalLM``, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lmgraft.errors import Problem

from lmgraft_decoders import hub_rope
from lmgraft_decoders.config_checks import LayerNorm
from lmgraft_decoders.config_rope import Stretch
from lmgraft_decoders.hub import Reader, written

if TYPE_CHECKING:
    from lmgraft_decoders.config_falcon import FalconConfig

__all__ = ["read", "write"]


def write(config: FalconConfig, vocab_size: int) -> dict[str, Any]:
    """``config.json`` for these settings."""
    values = {
        "activation": "gelu",
        "alibi": False,
        "attention_dropout": 0.0,
        "bias": config.bias,
        "ffn_hidden_size": config.mlp,
        "hidden_dropout": 0.0,
        "hidden_size": config.hidden,
        "layer_norm_epsilon": config.norm_eps,
        "max_position_embeddings": config.context,
        "multi_query": config.kv_heads == 1,
        "new_decoder_architecture": config.new_decoder,
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers,
        "num_kv_heads": config.kv_heads,
        "num_ln_in_parallel_attn": (1 if config.shared_norm else 2) if config.new_decoder else None,
        "parallel_attn": config.parallel,
        "tie_word_embeddings": config.tied,
        **hub_rope.write(config.rope_theta, Stretch()),
    }
    return written("falcon", "FalconForCausalLM", vocab_size, config.norm.value, **values)


def read(make: type[FalconConfig], config: Mapping[str, Any]) -> FalconConfig | None:
    """The settings; None where ``model_type`` is not ``falcon``.

    Raises UserError, one problem each: sizes that are missing or damaged, switches that are not built here.
    """
    if config.get("model_type") not in make.model_types:
        return None
    reader = Reader(config, "falcon")
    if reader.flag("alibi", False):
        reader.problems.append(_alibi())
    reader.one_of("activation", "gelu")
    hidden, heads = reader.whole("hidden_size", "n_embed"), reader.whole("num_attention_heads")
    new = reader.flag("new_decoder_architecture", False)
    norms = reader.whole("num_ln_in_parallel_attn", default=2 if new else 1)
    if norms > 2 or (norms == 2 and not new):
        reader.lacking("num_ln_in_parallel_attn", norms)
    values: dict[str, Any] = {
        "layers": reader.whole("num_hidden_layers"),
        "hidden": hidden,
        "heads": heads,
        "kv_heads": _kv_heads(reader, heads, new),
        "mlp": reader.whole("ffn_hidden_size", default=4 * hidden),
        "context": reader.whole("max_position_embeddings", default=2048),
        "rope_theta": hub_rope.refuse_scaling(reader, 10_000.0),
        "new_decoder": new,
        "parallel": reader.flag("parallel_attn", True),
        "shared_norm": norms == 1,
        "bias": reader.flag("bias", False),
        "norm": LayerNorm(reader.norm("layernorm")),
        "norm_eps": reader.number("layer_norm_epsilon", 1e-5),
        "tied": reader.flag("tie_word_embeddings", True),
    }
    return reader.finish(lambda: make(**values))


def _kv_heads(reader: Reader, heads: int, new: bool) -> int:
    """``multi_query`` is not looked at in the new block, and ``num_kv_heads`` not where it is true in the old one."""
    if not new and reader.flag("multi_query", True):
        return 1
    return reader.whole("num_kv_heads", default=heads)


def _alibi() -> Problem:
    cause = "Falcon-RW's ALiBi is divided by the root of the head's width and rounded to bfloat16; it is not built"
    return Problem("config.json sets alibi to true", cause, "use a falcon checkpoint with rotary positions")
