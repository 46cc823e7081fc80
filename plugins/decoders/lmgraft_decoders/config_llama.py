"""Settings of ``llama`` and its relatives Mistral and Qwen2. Light: no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from lmgraft.component import ComponentConfig
from lmgraft.seams.architecture import DecoderSpec

from lmgraft_decoders.config_checks import RmsNorm, above_zero, heads_fit, norm_word, sizes
from lmgraft_decoders.config_rope import Stretch

__all__ = ["Family", "LlamaConfig"]


class Family(Enum):
    """As which of transformers' classes a model is written and read."""

    llama = "llama"
    mistral = "mistral"
    qwen2 = "qwen2"


@dataclass
class LlamaConfig(ComponentConfig):
    """The defaults are a small model for a processor: 3.2 million parameters beside the embeddings."""

    model_types: ClassVar[tuple[str, ...]] = tuple(family.value for family in Family)

    family: Family = Family.llama
    """How the model is written for transformers: ``LlamaForCausalLM``, ``MistralForCausalLM`` (which has ``window``)
    or ``Qwen2ForCausalLM`` (which has ``window`` and always ``qkv_bias``)."""
    layers: int = 4
    """Blocks, each attention and MLP."""
    hidden: int = 256
    """Width of the residual stream."""
    heads: int = 4
    """Query heads; each is hidden / heads wide unless ``head_dim`` says otherwise."""
    kv_heads: int = 4
    """Key and value heads, each serving heads / kv_heads query heads (grouped-query attention)."""
    head_dim: int | None = None
    """Width of a head; null: hidden / heads."""
    mlp: int = 688
    """Width of the SwiGLU MLP; about 8/3 of hidden, which makes it as large as a plain MLP of 4 hidden."""
    context: int = 256
    """The longest sequence it is made for. Set it to the longest it is trained on (the train stage's seq_len):
    rotary positions beyond those are unknown to it."""
    window: int = 0
    """A token sees so many tokens, itself among them (sliding-window attention of ``mistral`` and ``qwen2``, in every
    layer); 0: all before it."""
    rope_theta: float = 10_000.0
    """Base of the rotary wavelengths."""
    rope_scaling: Stretch = field(default_factory=Stretch)
    """How the wavelengths are stretched for longer sequences (Llama 3.1)."""
    bias: bool = False
    """A bias on every projection of a layer; ``llama`` only."""
    qkv_bias: bool = False
    """A bias on queries, keys and values; ``qwen2``, and always there."""
    norm: RmsNorm = RmsNorm.rmsnorm
    """``none`` leaves all norms out; such a model needs an initializer made for that, and loads only here."""
    norm_eps: float = 1e-5
    """Added to the mean square inside RMSNorm."""
    tied: bool = False
    """The head is the embedding matrix."""

    def __post_init__(self) -> None:
        # One way to say it: config.json does not tell whether a width was chosen or followed.
        if self.head_dim is not None and self.heads > 0 and self.head_dim * self.heads == self.hidden:
            self.head_dim = None

    def provides(self) -> frozenset[str]:
        return frozenset({"decoder_spec", norm_word(self.norm)})

    def check(self) -> Iterator[str]:
        wrong = list(sizes(self, "layers", "hidden", "heads", "kv_heads", "mlp", "context"))
        if self.head_dim is not None:
            wrong += sizes(self, "head_dim")
        yield from wrong
        if self.window < 0:
            yield f"window is {self.window}; it must be at least 0"
        yield from above_zero(self, "rope_theta", "norm_eps")
        yield from self.rope_scaling.check()
        yield from heads_fit(self, even=True, wrong=wrong)
        yield from self._family()

    def _family(self) -> Iterator[str]:
        """Switches that transformers' class of the family does not have, so that files could not say them."""
        family = self.family
        if self.window > 0 and family is Family.llama:
            yield f"window is {self.window}, and the family llama has none; set family to mistral"
        if self.bias and family is not Family.llama:
            yield f"bias is true, and the family {family.value} has no biases on every projection; set family to llama"
        if self.qkv_bias and family is not Family.qwen2:
            yield f"qkv_bias is true, and the family {family.value} has no such biases; set family to qwen2"
        if not self.qkv_bias and family is Family.qwen2:
            yield "qkv_bias is false, and the family qwen2 always has these biases; set qkv_bias to true"

    def spec(self) -> DecoderSpec:
        """What another engine builds the same model from."""
        return DecoderSpec(
            layers=self.layers,
            hidden=self.hidden,
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim or self.hidden // self.heads,
            mlp=self.mlp,
            context=self.context,
            norm=self.norm.value,
            norm_eps=self.norm_eps,
            rope_theta=self.rope_theta,
            rope_scaling=self.rope_scaling.spec(),
            window=self.window,
            bias=self.bias,
            qkv_bias=self.qkv_bias,
            tied=self.tied,
        )

    @classmethod
    def from_hub(cls, config: Mapping[str, Any]) -> LlamaConfig | None:
        """The settings of a transformers ``config.json``; None where that is of another ``model_type``.

        Raises :class:`lmgraft.errors.UserError` where a value is damaged or the model has switches that this
        architecture lacks.
        """
        from lmgraft_decoders import hub_llama

        return hub_llama.read(cls, config)
