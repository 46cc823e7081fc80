"""Settings of ``mixtral``. Light: no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from lmgraft.component import ComponentConfig
from lmgraft.seams.architecture import DecoderSpec

from lmgraft_decoders.config_checks import RmsNorm, above_zero, heads_fit, norm_word, sizes

__all__ = ["MixtralConfig"]


@dataclass
class MixtralConfig(ComponentConfig):
    """The defaults are a small model for a processor: 9.5 million parameters beside the embeddings, of which a token
    goes through 3.1 million."""

    model_types: ClassVar[tuple[str, ...]] = ("mixtral",)

    layers: int = 4
    """Blocks, each attention and the MLPs of its experts."""
    hidden: int = 256
    """Width of the residual stream."""
    heads: int = 4
    """Query heads; each is hidden / heads wide unless ``head_dim`` says otherwise."""
    kv_heads: int = 2
    """Key and value heads, each serving heads / kv_heads query heads (grouped-query attention)."""
    head_dim: int | None = None
    """Width of a head; null: hidden / heads."""
    mlp: int = 344
    """Width of an expert's SwiGLU MLP."""
    experts: int = 8
    """Experts of each layer."""
    experts_per_token: int = 2
    """How many of them each token goes through: those that the router prefers, weighted by their softmax."""
    expert_balance: float = 0.02
    """Weight of the loss that spreads tokens evenly over experts, beside the loss of the objective; 0: none."""
    context: int = 256
    """The longest sequence it is made for. Set it to the longest it is trained on (the train stage's seq_len)."""
    window: int = 0
    """A token sees so many tokens, itself among them; 0: all before it."""
    rope_theta: float = 10_000.0
    """Base of the rotary wavelengths."""
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
        names = ("layers", "hidden", "heads", "kv_heads", "mlp", "context", "experts", "experts_per_token")
        wrong = list(sizes(self, *names, *(("head_dim",) if self.head_dim is not None else ())))
        yield from wrong
        if self.window < 0:
            yield f"window is {self.window}; it must be at least 0"
        if not self.expert_balance >= 0:
            yield f"expert_balance is {self.expert_balance}; it must be at least 0"
        yield from above_zero(self, "rope_theta", "norm_eps")
        yield from heads_fit(self, even=True, wrong=wrong)
        if self.experts_per_token > self.experts > 0:
            yield f"experts_per_token is {self.experts_per_token}; there are {self.experts} experts"

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
            window=self.window,
            tied=self.tied,
            experts=self.experts,
            experts_per_token=self.experts_per_token,
            expert_balance=self.expert_balance,
        )

    @classmethod
    def from_hub(cls, config: Mapping[str, Any]) -> MixtralConfig | None:
        """The settings of a transformers ``config.json``; None where that is of another ``model_type``.

        Raises :class:`lmgraft.errors.UserError` where a value is damaged or the model has switches that this
        architecture lacks.
        """
        from lmgraft_decoders import hub_mixtral

        return hub_mixtral.read(cls, config)
