"""The settings of ``llama`` as a transformers ``config.json`` of ``LlamaForCausalLM``, ``MistralForCausalLM`` or
``Qwen2ForCausalLM``, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lmgraft_decoders import hub_rope
from lmgraft_decoders.config_checks import RmsNorm
from lmgraft_decoders.config_llama import Family
from lmgraft_decoders.hub import Reader, written

if TYPE_CHECKING:
    from lmgraft_decoders.config_llama import LlamaConfig

__all__ = ["read", "write"]

CLASSES = {
    Family.llama: "LlamaForCausalLM",
    Family.mistral: "MistralForCausalLM",
    Family.qwen2: "Qwen2ForCausalLM",
}
#: The values that transformers takes where the file is silent.
CONTEXTS = {Family.llama: 2048, Family.mistral: 131_072, Family.qwen2: 32_768}
KV_HEADS = {Family.mistral: 8, Family.qwen2: 32}
WINDOW, FULL_LAYERS = 4096, 28


def write(config: LlamaConfig, vocab_size: int) -> dict[str, Any]:
    """``config.json`` for these settings."""
    values: dict[str, Any] = {
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "hidden_size": config.hidden,
        "intermediate_size": config.mlp,
        "max_position_embeddings": config.context,
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers,
        "num_key_value_heads": config.kv_heads,
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tied,
        **hub_rope.write(config.rope_theta, config.rope_scaling),
        **_of_family(config),
    }
    return written(config.family.value, CLASSES[config.family], vocab_size, config.norm.value, **values)


def _of_family(config: LlamaConfig) -> dict[str, Any]:
    width = {"head_dim": config.spec().head_dim}
    if config.family is Family.llama:
        return {**width, "attention_bias": config.bias, "mlp_bias": config.bias}
    if config.family is Family.mistral:
        return {**width, "sliding_window": config.window or None}
    # Qwen2's layers below max_window_layers see everything. Its class takes the width from elsewhere unless told.
    window = {"max_window_layers": 0 if config.window else config.layers, "sliding_window": config.window or None}
    return {**({} if config.head_dim is None else width), **window, "use_sliding_window": config.window > 0}


def read(make: type[LlamaConfig], config: Mapping[str, Any]) -> LlamaConfig | None:
    """The settings; None where ``model_type`` is of no relative of Llama.

    Raises UserError, one problem each: sizes that are missing or damaged, switches that are not built here.
    """
    if config.get("model_type") not in make.model_types:
        return None
    family = Family(config["model_type"])
    reader = Reader(config, family.value)
    heads, layers = reader.whole("num_attention_heads"), reader.whole("num_hidden_layers")
    # A key that is null means as many as queries; one that is not there, the class's own number.
    kv_heads = heads if "num_key_value_heads" in config else KV_HEADS.get(family, heads)
    context = reader.whole("max_position_embeddings", default=CONTEXTS[family])
    theta, stretch = hub_rope.read(reader, 10_000.0, context)
    reader.one_of("hidden_act", "silu", "swish")
    values: dict[str, Any] = {
        "family": family,
        "layers": layers,
        "hidden": reader.whole("hidden_size"),
        "heads": heads,
        "kv_heads": reader.whole("num_key_value_heads", default=kv_heads),
        "head_dim": reader.whole("head_dim", default=0) or None,
        "mlp": reader.whole("intermediate_size"),
        "context": context,
        "window": _window(reader, family, layers),
        "rope_theta": theta,
        "rope_scaling": stretch,
        "bias": _bias(reader) if family is Family.llama else False,
        "qkv_bias": family is Family.qwen2,
        "norm": RmsNorm(reader.norm("rmsnorm")),
        "norm_eps": reader.number("rms_norm_eps", 1e-6),
        "tied": reader.flag("tie_word_embeddings", False),
    }
    return reader.finish(lambda: make(**values))


def _bias(reader: Reader) -> bool:
    attention, mlp = reader.flag("attention_bias", False), reader.flag("mlp_bias", False)
    if attention != mlp:
        reader.lacking("attention_bias" if attention else "mlp_bias", "true, and the other to false")
    return attention and mlp


def _window(reader: Reader, family: Family, layers: int) -> int:
    """How many tokens a token sees in every layer; 0: all of them."""
    kinds = reader.config.get("layer_types")
    kinds = set(kinds) if isinstance(kinds, list) and all(isinstance(kind, str) for kind in kinds) else None
    if family is Family.llama:
        if kinds and kinds != {"full_attention"}:
            reader.lacking("layer_types", ", ".join(sorted(kinds)))
        return 0
    if family is Family.mistral:
        usual = 0 if "sliding_window" in reader.config else WINDOW
        if kinds and len(kinds) > 1:
            reader.lacking("layer_types", "layers that see different spans")
        return reader.whole("sliding_window", default=usual)
    if not reader.flag("use_sliding_window", False):
        return 0
    full = min(reader.whole("max_window_layers", default=FULL_LAYERS, least=0), layers)
    if kinds is None:
        kinds = {"full_attention"} if full == layers else {"sliding_attention"} if full == 0 else {"", "both"}
    if len(kinds) > 1:
        reader.lacking("use_sliding_window", f"true and max_window_layers to {full} of {layers} layers")
        return 0
    if kinds == {"full_attention"}:
        return 0
    return reader.whole("sliding_window", default=0 if "sliding_window" in reader.config else WINDOW)
