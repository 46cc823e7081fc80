"""Settings of ``gpt2``, of which GPT-3 is a size. Light: no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from lmgraft.component import ComponentConfig
from lmgraft.seams.architecture import DecoderSpec

from lmgraft_decoders.config_checks import LayerNorm, above_zero, heads_fit, norm_word, sizes

__all__ = ["Gpt2Config"]


@dataclass
class Gpt2Config(ComponentConfig):
    """The defaults are a small model for a processor: 3.2 million parameters beside the embeddings."""

    model_types: ClassVar[tuple[str, ...]] = ("gpt2",)

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
    norm: LayerNorm = LayerNorm.layernorm
    """``none`` leaves all norms out; such a model needs an initializer made for that, and loads only here."""
    norm_eps: float = 1e-5
    """Added to the variance inside LayerNorm."""
    tied: bool = True
    """The head is the embedding matrix."""

    def provides(self) -> frozenset[str]:
        return frozenset({"decoder_spec", norm_word(self.norm)})

    def check(self) -> Iterator[str]:
        wrong = list(sizes(self, "layers", "hidden", "heads", "mlp", "context"))
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

        Raises :class:`lmgraft.errors.UserError` where a value is damaged or the model has switches that this
        architecture lacks.
        """
        from lmgraft_decoders import hub_gpt2

        return hub_gpt2.read(cls, config)
