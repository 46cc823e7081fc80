"""Settings of ``bloom``. Light: no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from lmgraft.component import ComponentConfig
from lmgraft.seams.architecture import DecoderSpec

from lmgraft_decoders.config_checks import LayerNorm, above_zero, heads_fit, norm_word, sizes

__all__ = ["BloomConfig"]


@dataclass
class BloomConfig(ComponentConfig):
    """The defaults are a small model for a processor: 3.2 million parameters beside the embeddings. The MLP is 4 hidden
    wide, which transformers' class cannot say otherwise."""

    model_types: ClassVar[tuple[str, ...]] = ("bloom",)

    layers: int = 4
    """Blocks, each attention and MLP."""
    hidden: int = 256
    """Width of the residual stream."""
    heads: int = 4
    """Attention heads; each is hidden / heads wide."""
    context: int = 256
    """The longest sequence it is made for. ALiBi knows no limit; answers beyond what was trained on are a guess."""
    norm: LayerNorm = LayerNorm.layernorm
    """``none`` leaves all norms out, that after the embedding too; such a model needs an initializer made for that,
    and loads only here."""
    norm_eps: float = 1e-5
    """Added to the variance inside LayerNorm."""
    tied: bool = True
    """The head is the embedding matrix."""

    def provides(self) -> frozenset[str]:
        return frozenset({"decoder_spec", norm_word(self.norm)})

    def check(self) -> Iterator[str]:
        wrong = list(sizes(self, "layers", "hidden", "heads", "context"))
        yield from wrong
        yield from above_zero(self, "norm_eps")
        yield from heads_fit(self, even=False, wrong=wrong)

    def spec(self) -> DecoderSpec:
        """What another engine builds the same model from."""
        return DecoderSpec(
            layers=self.layers,
            hidden=self.hidden,
            heads=self.heads,
            kv_heads=self.heads,
            head_dim=self.hidden // self.heads,
            mlp=4 * self.hidden,
            context=self.context,
            norm=self.norm.value,
            norm_eps=self.norm_eps,
            activation="gelu_tanh",
            gated=False,
            positions="alibi",
            embedding_norm=self.norm is not LayerNorm.none,
            bias=True,
            tied=self.tied,
        )

    @classmethod
    def from_hub(cls, config: Mapping[str, Any]) -> BloomConfig | None:
        """The settings of a transformers ``config.json``; None where that is of another ``model_type``.

        Raises :class:`lmgraft.errors.UserError` where a value is damaged or the model has switches that this
        architecture lacks.
        """
        from lmgraft_decoders import hub_bloom

        return hub_bloom.read(cls, config)
