"""Seam ``architecture``: what the model is.

Rules
- ``build`` on ``"meta"`` allocates nothing. Parameters are *canonical*: unfused (q, k and v apart), (out, in) as
  ``nn.Linear`` has them, one name each. Checkpoints, initializers and optimizer state know canonical names only.
- A model folder holds the tensors of the Hugging Face class that ``hub_config`` names. Where those differ from the
  canonical ones (GPT-2 keeps q, k and v in one transposed matrix), ``to_hub`` and ``from_hub`` translate, losslessly.
- A decoder with a :class:`DecoderSpec` uses the canonical names of :data:`DECODER_NAMES`, so that another engine can
  build the same model from the spec and find its weights.
- The module's ``forward`` is the only entry: the head is inside, and nothing calls an inner module (that would leave
  DDP's gradients unsynchronised without a word).
- Causal: outputs at position t depend on tokens <= t of the same segment only. Padding and packing change nothing.
  The tokens of a segment stand side by side in their row. Core numbers segments 0, 1, 2 ... from the left and pads (-1)
  at the right; the conformance kit pads at the left too. Padding within a row's text does not come. Answers at padding
  count for nothing, and must be finite.
- The module computes what is asked for and nothing else; logits never leave it, except the last position's for
  generation (``next_logits``). :func:`lmgraft.training.asks.compute` answers all asks but ``value`` and ``next_logits``
  from hidden states and the head's weight. What it cannot answer it refuses with a :class:`lmgraft.errors.Fault`.
- Parameters are not filled by ``build``: an initializer or a model folder fills them. A module with buffers is built a
  second time on its device, so ``build(vocab_size, "cpu")`` must work too. Tensors are float32; under ``bfloat16`` the
  engine calls ``forward`` inside ``torch.autocast``.

From a model folder back to its architecture: a finished model is a folder with ``config.json``, and ``lmgraft
generate``, ``lmgraft.load`` and every evaluate stage must find what builds it. Core imports the light modules of the
installed architectures, the one whose name is the file's ``model_type`` first, and asks each *config class* that has
the class method ``from_hub`` (see :class:`ArchitectureConfig`). The first that does not say None gives the settings;
the part is built from them, and the vocabulary's size is the file's ``vocab_size``. So ``from_hub(hub_config(V))`` must
be the settings again, every field equal (the kit compares them with ``==``); ``part`` is left alone, since core fills
it in. What Hugging Face has no key for is written under a key of your own. An architecture without ``from_hub`` can be
trained and cannot be evaluated.

Generation: core asks ``next_logits`` of one sequence, first with the whole prompt and ``cache=None``, then with the one
new token, its absolute position in ``positions`` and the ``cache`` of the answer before. A module that gives no cache
(``Outputs.cache`` None) is given the whole sequence each time. What a cache is, the module alone knows: keys and
values, or the state of a recurrence. Core hands it back as it came, each one once, so it may be changed in place;
nothing of a sequence may stay in the module. Cache and segments do not come together: a sequence with a cache is one
segment without padding. The kit asks for more than core does: several rows at once, several new tokens, ``targets``.

Generation of several texts at once: where a cache is a :class:`RowCache`, core joins the caches of texts that are under
way, whatever their lengths, and asks for all their next tokens in one pass: ``tokens`` and ``positions`` (B, 1), each
row with its own position. A row that has ended is taken out with ``select``. Any other cache is stepped by itself. A
module may have a method ``generation()``: a module with the same answers to ``next_logits``, made for it (weights laid
out anew, products joined). Core calls it once, where weights no longer change, and asks the module that it gives.

How weights start. An initializer sees a parameter's role, layer and shape, and never its name. A gain that should start
at 1 is ``Role.NORM`` and a vector that should start at 0 ``Role.BIAS``; what the initializers that come with lmgraft do
with ``Role.OTHER`` stands at the door ``initializer``. A parameter with a start of its own (the decay of a recurrence)
is kept as its distance from that start, which is a constant or a setting of the module: ``sigmoid(start + self.bias)``.

Sequences that are too long. A train stage refuses a ``seq_len`` above ``context()`` before it trains, which is late
where a corpus is made first. Settings with ``spec()`` are asked when the recipe is composed; others say so themselves
in ``check_recipe`` (:class:`lmgraft.component.ComponentConfig` has just this as its example).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = [
    "ASKS",
    "DECODER_NAMES",
    "Architecture",
    "ArchitectureConfig",
    "DecoderSpec",
    "Outputs",
    "Role",
    "RopeScaling",
    "RowCache",
    "TensorRole",
]

#: What an objective may ask of every position. ``next_logits`` is for generation only and no objective's business.
ASKS = frozenset({"logprob", "logsumexp", "entropy", "vocab_mean", "greedy", "value", "next_logits"})


#: The canonical parameters of a standard decoder: transformers' names of Llama, with a position table and biases where
#: a spec has them. ``{i}`` counts the layers from 0. Which of them exist follows from the spec: ``gate_proj`` with
#: ``gated``, norms unless ``norm`` is ``"none"``, their ``bias`` with ``"layernorm"``, ``embed_positions`` with
#: ``positions == "learned"``, projections' ``bias`` with ``bias`` (q, k, v also with ``qkv_bias``), ``lm_head``
#: unless ``tied``, ``embed_norm`` with ``embedding_norm``. A parallel block with ``shared_norm`` has no
#: ``post_attention_layernorm``; one without has it for its MLP. With ``experts`` the MLP is ``router`` and the
#: ``experts.{e}``, counted from 0, in place of the one dense MLP; the router has no bias.
DECODER_NAMES = (
    "model.embed_tokens.weight",
    "model.embed_positions.weight",
    "model.embed_norm.weight",
    "model.embed_norm.bias",
    "model.layers.{i}.input_layernorm.weight",
    "model.layers.{i}.input_layernorm.bias",
    "model.layers.{i}.self_attn.q_proj.weight",
    "model.layers.{i}.self_attn.q_proj.bias",
    "model.layers.{i}.self_attn.k_proj.weight",
    "model.layers.{i}.self_attn.k_proj.bias",
    "model.layers.{i}.self_attn.v_proj.weight",
    "model.layers.{i}.self_attn.v_proj.bias",
    "model.layers.{i}.self_attn.o_proj.weight",
    "model.layers.{i}.self_attn.o_proj.bias",
    "model.layers.{i}.post_attention_layernorm.weight",
    "model.layers.{i}.post_attention_layernorm.bias",
    "model.layers.{i}.mlp.gate_proj.weight",
    "model.layers.{i}.mlp.gate_proj.bias",
    "model.layers.{i}.mlp.up_proj.weight",
    "model.layers.{i}.mlp.up_proj.bias",
    "model.layers.{i}.mlp.down_proj.weight",
    "model.layers.{i}.mlp.down_proj.bias",
    "model.layers.{i}.mlp.router.weight",
    "model.layers.{i}.mlp.experts.{e}.gate_proj.weight",
    "model.layers.{i}.mlp.experts.{e}.up_proj.weight",
    "model.layers.{i}.mlp.experts.{e}.down_proj.weight",
    "model.norm.weight",
    "model.norm.bias",
    "lm_head.weight",
)


@dataclass(slots=True)
class Outputs:
    """What was asked for, float32 unless said otherwise. B sequences, T positions, V vocabulary entries."""

    logprob: torch.Tensor | None = None
    """(B, T) natural log-probability of ``targets`` (B, T); or (B, T, K) for targets (B, T, K)."""
    logsumexp: torch.Tensor | None = None
    """(B, T) log of the softmax's denominator."""
    entropy: torch.Tensor | None = None
    """(B, T) nats."""
    vocab_mean: torch.Tensor | None = None
    """(B, T) mean log-probability over the vocabulary (label smoothing)."""
    greedy: torch.Tensor | None = None
    """(B, T) bool: is the target the argmax."""
    value: torch.Tensor | None = None
    """(B, T) scalar head."""
    next_logits: torch.Tensor | None = None
    """(B, V) logits after the last position."""
    cache: Any = None
    """What the module needs in order to go on after the last position, given with ``next_logits``: keys and values,
    states. Opaque to all but the module; None: it keeps none."""
    model_losses: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Losses that the model itself brings, such as expert balance: scalars, per microbatch."""


class Role(Enum):
    """What a weight does, for initializers and optimizer groups."""

    EMBEDDING = "embedding"
    """(V, hidden): tokens to vectors; the head as well where it is tied."""
    POSITION = "position"
    """(context, hidden): a learned table of positions."""
    HEAD = "head"
    """(V, hidden): vectors to logits."""
    NORM = "norm"
    """The gain of a norm."""
    QUERY = "query"
    """Hidden to queries."""
    KEY = "key"
    """Hidden to keys."""
    VALUE = "value"
    """Hidden to values."""
    ATTENTION_OUT = "attention_out"
    """Attention's output projection, into the residual stream."""
    MLP_IN = "mlp_in"
    """Hidden to the MLP's width (``up_proj``)."""
    MLP_GATE = "mlp_gate"
    """The gate of a gated MLP."""
    MLP_OUT = "mlp_out"
    """The MLP's output projection, into the residual stream."""
    BIAS = "bias"
    """A bias, of a projection or of a norm."""
    ADAPTER = "adapter"
    """A weight that an adapter (:mod:`lmgraft.seams.adapter`) adds: no part of a model folder."""
    OTHER = "other"
    """None of these: a router, a convolution, a state-space matrix."""


@dataclass(frozen=True, slots=True)
class TensorRole:
    """What a parameter does, and where."""

    role: Role
    """What it does."""
    layer: int | None = None
    """0 .. layers - 1, or None outside the stack."""
    lr_scale: float = 1.0
    """The learning rate of this parameter is so many times the step's: an optimizer gives it a group with this as its
    ``scale``. Set by core where the initializer has rules for it
    (:class:`lmgraft.seams.initializer.ScalingInitializer`); ``Architecture.role`` leaves it at 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeScaling:
    """How the wavelengths of rotary positions are stretched for longer sequences, in transformers' words."""

    kind: str
    """``linear``: all by ``factor``; ``llama3``: the long ones by ``factor``, the short ones not at all."""
    factor: float
    """1 changes nothing."""
    low_freq_factor: float = 1.0
    """``llama3``: wavelengths above ``original_context / low_freq_factor`` are stretched whole."""
    high_freq_factor: float = 4.0
    """``llama3``: wavelengths below ``original_context / high_freq_factor`` stay; in between, smoothly."""
    original_context: int = 8192
    """``llama3``: the context before it was stretched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderSpec:
    """Sizes and switches of a standard decoder, from which another engine builds the same model.

    Light: an architecture's *config* gives it too (its method ``spec()``), so that a layout can refuse what it cannot
    express before anything heavy is imported.
    """

    layers: int
    """Blocks, each attention and MLP."""
    hidden: int
    """Width of the residual stream."""
    heads: int
    """Query heads."""
    kv_heads: int
    """Key and value heads, each serving ``heads / kv_heads`` query heads."""
    head_dim: int
    """Width of a head; ``heads * head_dim`` need not be ``hidden``."""
    mlp: int
    """Width of the MLP (of one expert's, where there are experts)."""
    context: int
    """The longest sequence, in tokens."""
    norm: str = "rmsnorm"
    """``rmsnorm``, ``layernorm`` or ``none``."""
    norm_eps: float = 1e-5
    """Added to the variance (mean square) inside a norm."""
    activation: str = "silu"
    """``silu``, ``gelu`` or ``gelu_tanh`` (GPT-2's)."""
    gated: bool = True
    """The MLP is ``down(act(gate(x)) * up(x))``, otherwise ``down(act(up(x)))``."""
    positions: str = "rope"
    """``rope``, ``learned``, ``alibi`` or ``none``."""
    rope_theta: float = 10_000.0
    """Base of the rotary wavelengths."""
    rope_scaling: RopeScaling | None = None
    """None: as they are."""
    window: int = 0
    """A token sees so many tokens, itself among them (Mistral's sliding window); 0: all before it."""
    embedding_norm: bool = False
    """A norm right after the embedding (BLOOM)."""
    bias: bool = False
    """On every projection of a layer."""
    qkv_bias: bool = False
    """On q, k and v alone (Qwen-2)."""
    tied: bool = False
    """The head is the embedding matrix."""
    parallel_block: bool = False
    """Attention and MLP read the same normed input and are added together (GPT-J)."""
    shared_norm: bool = True
    """In a parallel block: one norm for both (Falcon-7B); False: the MLP has a norm of its own (Falcon-40B)."""
    experts: int = 0
    """Experts of each MLP; 0: one dense MLP."""
    experts_per_token: int = 0
    """How many of them each token goes through."""
    expert_balance: float = 0.0
    """Weight of the loss that spreads tokens evenly over experts (``Outputs.model_losses``), as transformers computes
    it over the layers together; 0: none."""


@runtime_checkable
class RowCache(Protocol):
    """A cache whose rows can be taken apart and put together. Both methods may use up what they are called on."""

    def select(self, rows: Sequence[int]) -> RowCache:
        """The cache of these rows, in this order."""
        ...

    def join(self, other: RowCache) -> RowCache:
        """The cache of this one's rows and then the other's. Rows may have read different numbers of tokens; each goes
        on as it would have alone, and nothing of one shows in another's answers."""
        ...


class ArchitectureConfig(Protocol):
    """What an architecture's *settings* may have beside their fields. All are optional and light: no torch."""

    model_types: ClassVar[tuple[str, ...]]
    """The ``model_type`` of each ``config.json`` that ``from_hub`` reads: near names are told from these where a file
    is of none of them."""

    @classmethod
    def from_hub(cls, config: Mapping[str, Any]) -> ArchitectureConfig | None:
        """The settings that a ``config.json`` was written from, ``part`` left alone; None where it is none of this
        architecture's (another ``model_type``). Called on the class, with the file's whole content.

        :raises UserError: it is one of this architecture's, with a switch that the architecture lacks.
        """
        ...

    def spec(self) -> DecoderSpec | None:
        """For standard decoders, what ``Architecture.spec`` gives, before anything heavy is imported: layouts refuse by
        it what they cannot express, and a train stage a ``seq_len`` above its ``context``. Such a config's
        ``provides()`` holds ``"decoder_spec"``."""
        ...

    def weights(self) -> Path | None:
        """The model folder that the weights come from where a train stage names no ``model``; None: an initializer
        fills them. Its contents are part of the stage's key, and where it lies is not. Such a config's ``provides()``
        holds ``"weights"``."""
        ...


@runtime_checkable
class Architecture(Protocol):
    """The part: builds the model and tells of it."""

    def build(self, vocab_size: int, device: str = "meta") -> nn.Module:
        """A module whose ``forward(tokens, positions=None, segments=None, targets=None, asks=(), cache=None)`` gives
        :class:`Outputs`.

        ``tokens`` (B, T) int64; ``positions`` (B, T) int64, by default 0, 1, 2 ...; ``segments`` (B, T) int64, tokens
        of different segments do not see one another, -1 marks padding, None means one segment; ``targets`` (B, T) or
        (B, T, K) int64, negative where nothing is asked (its log-probability is 0); ``asks`` a collection of names in
        :data:`ASKS`; ``cache`` what an earlier answer held in ``Outputs.cache``. ``forward`` has exactly these names;
        core calls it with ``tokens`` first and the others by name.
        """
        ...

    def role(self, name: str) -> TensorRole:
        """What the parameter of this name does."""
        ...

    def flops(self, seq_len: int, vocab_size: int = 0) -> float:
        """Training FLOPs a token (forward and backward) at this sequence length, attention included; the head too
        where ``vocab_size`` is given."""
        ...

    def context(self) -> int:
        """The longest sequence it is made for, in tokens read; training, scoring and generation end there."""
        ...

    def hub_config(self, vocab_size: int) -> dict[str, Any]:
        """The ``config.json`` of the Hugging Face class with the same logits, as a JSON object: ``model_type``,
        ``architectures`` and ``vocab_size`` at least. An architecture that Hugging Face does not have takes a
        ``model_type`` of its own."""
        ...

    def to_hub(self, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Canonical tensors as the tensors of a model folder. Optional: without it the names are the same. Lazy where
        it can be; a mapping that translates one tensor when it is asked for keeps memory at one tensor."""
        ...

    def from_hub(self, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """The way back, bit for bit. Optional, as ``to_hub`` is."""
        ...

    def spec(self) -> DecoderSpec | None:
        """For standard decoders; None otherwise."""
        ...
