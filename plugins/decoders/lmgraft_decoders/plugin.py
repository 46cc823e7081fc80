"""The architectures ``llama`` and ``gpt2``: their names and their settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl
from lmgraft.seams.architecture import DecoderSpec

__all__ = ["Gpt2Config", "Gpt2Norm", "LlamaConfig", "Norm"]


class Norm(Enum):
    rmsnorm = "rmsnorm"
    none = "none"


class Gpt2Norm(Enum):
    layernorm = "layernorm"
    none = "none"


@dataclass
class LlamaConfig(ComponentConfig):
    """The defaults are a small model for a processor: 3.2 million parameters beside the embeddings."""

    layers: int = 4
    """Blocks, each attention and MLP."""
    hidden: int = 256
    """Width of the residual stream."""
    heads: int = 4
    """Query heads; each is hidden / heads wide."""
    kv_heads: int = 4
    """Key and value heads, each serving heads / kv_heads query heads (grouped-query attention)."""
    mlp: int = 688
    """Width of the SwiGLU MLP; about 8/3 of hidden, which makes it as large as a plain MLP of 4 hidden."""
    context: int = 256
    """The longest sequence it is made for. Set it to the longest it is trained on (the train stage's seq_len):
    rotary positions beyond those are unknown to it."""
    rope_theta: float = 10_000.0
    """Base of the rotary wavelengths."""
    norm: Norm = Norm.rmsnorm
    """``none`` leaves all norms out; such a model needs an initializer made for that, and loads only here."""
    norm_eps: float = 1e-5
    """Added to the mean square inside RMSNorm."""
    tied: bool = False
    """The head is the embedding matrix."""

    def provides(self) -> frozenset[str]:
        return frozenset({"decoder_spec", "norm" if self.norm is Norm.rmsnorm else "no_norm"})

    def check(self) -> Iterator[str]:
        sizes = ("layers", "hidden", "heads", "kv_heads", "mlp", "context")
        wrong = [name for name in sizes if getattr(self, name) < 1]
        for name in wrong:
            yield f"{name} is {getattr(self, name)}; it must be at least 1"
        if self.rope_theta <= 0:
            yield f"rope_theta is {self.rope_theta}; it must be above 0"
        if self.norm_eps <= 0:
            yield f"norm_eps is {self.norm_eps}; it must be above 0"
        if wrong:
            return
        if self.hidden % self.heads:
            yield f"hidden ({self.hidden}) is not a multiple of heads ({self.heads})"
        elif self.hidden // self.heads % 2:
            yield f"a head is {self.hidden // self.heads} wide; rotary positions turn pairs, so it must be even"
        if self.heads % self.kv_heads:
            yield f"heads ({self.heads}) is not a multiple of kv_heads ({self.kv_heads})"

    def spec(self) -> DecoderSpec:
        """What another engine builds the same model from."""
        return DecoderSpec(
            layers=self.layers,
            hidden=self.hidden,
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_dim=self.hidden // self.heads,
            mlp=self.mlp,
            context=self.context,
            norm=self.norm.value,
            norm_eps=self.norm_eps,
            rope_theta=self.rope_theta,
            tied=self.tied,
        )

    @classmethod
    def from_hub(cls, config: Mapping[str, Any]) -> LlamaConfig | None:
        """The settings of a transformers ``config.json``; None where that is of another ``model_type``.

        Raises :class:`lmgraft.errors.UserError` where the model has switches that this architecture lacks.
        """
        from lmgraft_decoders import hub

        values = hub.read(config)
        return None if values is None else cls(**{**values, "norm": Norm(values["norm"])})


@dataclass
class Gpt2Config(ComponentConfig):
    """The defaults are a small model for a processor: 3.2 million parameters beside the embeddings."""

    layers: int = 4
    """Blocks, each attention and MLP."""
    hidden: int = 256
    """Width of the residual stream."""
    heads: int = 4
    """Attention heads; each is hidden / heads wide."""
    mlp: int = 1024
    """Width of the MLP; 4 hidden in GPT-2."""
    context: int = 256
    """The longest sequence: the position table has as many rows."""
    norm: Gpt2Norm = Gpt2Norm.layernorm
    """``none`` leaves all norms out; such a model needs an initializer made for that, and loads only here."""
    norm_eps: float = 1e-5
    """Added to the variance inside LayerNorm."""
    tied: bool = True
    """The head is the embedding matrix."""

    def provides(self) -> frozenset[str]:
        return frozenset({"decoder_spec", "norm" if self.norm is Gpt2Norm.layernorm else "no_norm"})

    def check(self) -> Iterator[str]:
        wrong = [name for name in ("layers", "hidden", "heads", "mlp", "context") if getattr(self, name) < 1]
        for name in wrong:
            yield f"{name} is {getattr(self, name)}; it must be at least 1"
        if self.norm_eps <= 0:
            yield f"norm_eps is {self.norm_eps}; it must be above 0"
        if not wrong and self.hidden % self.heads:
            yield f"hidden ({self.hidden}) is not a multiple of heads ({self.heads})"

    def spec(self) -> DecoderSpec:
        """What another engine builds the same model from."""
        return DecoderSpec(
            layers=self.layers,
            hidden=self.hidden,
            heads=self.heads,
            kv_heads=self.heads,
            head_dim=self.hidden // self.heads,
            mlp=self.mlp,
            context=self.context,
            norm=self.norm.value,
            norm_eps=self.norm_eps,
            activation="gelu_tanh",
            gated=False,
            positions="learned",
            bias=True,
            tied=self.tied,
        )

    @classmethod
    def from_hub(cls, config: Mapping[str, Any]) -> Gpt2Config | None:
        """The settings of a transformers ``config.json``; None where that is of another ``model_type``.

        Raises :class:`lmgraft.errors.UserError` where the model has switches that this architecture lacks.
        """
        from lmgraft_decoders import hub_gpt2

        values = hub_gpt2.read(config)
        return None if values is None else cls(**{**values, "norm": Gpt2Norm(values["norm"])})


@hookimpl
def lmgraft_architecture() -> list[Component[Any]]:
    return [
        Component(
            name="llama",
            target="lmgraft_decoders.architecture:Llama",
            config=LlamaConfig,
            summary="Llama decoder: RoPE, RMSNorm, SwiGLU, grouped-query attention",
            variants=("tiny", "160m", "1b", "7b"),
        ),
        Component(
            name="gpt2",
            target="lmgraft_decoders.architecture:Gpt2",
            config=Gpt2Config,
            summary="GPT-2 decoder: learned positions, LayerNorm, GELU",
            variants=("tiny", "124m"),
        ),
    ]
