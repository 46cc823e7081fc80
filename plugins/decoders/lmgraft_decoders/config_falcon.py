"""Settings of ``falcon``. Light: no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from lmgraft.component import ComponentConfig
from lmgraft.seams.architecture import DecoderSpec

from lmgraft_decoders.config_checks import LayerNorm, above_zero, heads_fit, norm_word, sizes

__all__ = ["FalconConfig"]


@dataclass
class FalconConfig(ComponentConfig):
    """The defaults are a small model for a processor, made as Falcon-7B is: 2.6 million parameters beside the
    embeddings."""

    model_types: ClassVar[tuple[str, ...]] = ("falcon",)

    layers: int = 4
    """Blocks, each attention and MLP."""
    hidden: int = 256
    """Width of the residual stream."""
    heads: int = 4
    """Query heads; each is hidden / heads wide."""
    kv_heads: int = 1
    """Key and value heads. 1: multi-query attention (Falcon-7B); ``heads``: one each; between them with
    ``new_decoder`` only."""
    mlp: int = 1024
    """Width of the MLP; 4 hidden in Falcon."""
    context: int = 256
    """The longest sequence it is made for. Set it to the longest it is trained on (the train stage's seq_len)."""
    rope_theta: float = 10_000.0
    """Base of the rotary wavelengths."""
    new_decoder: bool = False
    """The block of Falcon-40B (``new_decoder_architecture``): grouped-query attention, always parallel."""
    parallel: bool = True
    """Attention and MLP read the same input and are added together; false: one after the other."""
    shared_norm: bool = True
    """One norm for both of a parallel block; false, with ``new_decoder`` only: the MLP has its own (Falcon-40B)."""
    bias: bool = False
    """A bias on every projection of a layer."""
    norm: LayerNorm = LayerNorm.layernorm
    """``none`` leaves all norms out; such a model needs an initializer made for that, and loads only here."""
    norm_eps: float = 1e-5
    """Added to the variance inside LayerNorm."""
    tied: bool = True
    """The head is the embedding matrix."""

    def provides(self) -> frozenset[str]:
        return frozenset({"decoder_spec", norm_word(self.norm)})

    def check(self) -> Iterator[str]:
        wrong = list(sizes(self, "layers", "hidden", "heads", "kv_heads", "mlp", "context"))
        yield from wrong
        yield from above_zero(self, "rope_theta", "norm_eps")
        yield from heads_fit(self, even=True, wrong=wrong)
        if not self.new_decoder and self.kv_heads not in (1, self.heads) and self.kv_heads > 0:
            yield f"kv_heads is {self.kv_heads}; without new_decoder it is 1 or heads ({self.heads})"
        if self.new_decoder and not self.parallel:
            yield "parallel is false; a block of new_decoder is always parallel"
        if not self.shared_norm and not self.new_decoder:
            yield "shared_norm is false; only a block of new_decoder has two norms in parallel"

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
            activation="gelu",
            gated=False,
            rope_theta=self.rope_theta,
            bias=self.bias,
            tied=self.tied,
            parallel_block=self.parallel,
            shared_norm=self.shared_norm,
        )

    @classmethod
    def from_hub(cls, config: Mapping[str, Any]) -> FalconConfig | None:
        """The settings of a transformers ``config.json``; None where that is of another ``model_type``.

        Raises :class:`lmgraft.errors.UserError` where a value is damaged or the model has switches that this
        architecture lacks (the scaled ALiBi of Falcon-RW).
        """
        from lmgraft_decoders import hub_falcon

        return hub_falcon.read(cls, config)
