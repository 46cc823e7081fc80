"""Settings of the kind of stage ``train``: strings and numbers, nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from lmgraft.component import MISSING, StageConfig, execution, from_stage, slot
from lmgraft.errors import Problem
from lmgraft.stages import _adapter, _blends, _frozen, _row_data, _shapes, _start

if TYPE_CHECKING:
    from lmgraft.recipe import Recipe

__all__ = ["Overlong", "Packing", "Precision", "TrainStage"]


class Precision(Enum):
    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


class Overlong(Enum):
    """What happens to a row that is longer than ``seq_len`` once it is encoded."""

    drop = "drop"
    """Left out, and counted."""
    refuse = "refuse"
    """The stage stops before it trains, naming the first one and how many there are."""


class Packing(Enum):
    """How encoded rows are laid into sequences of ``seq_len``."""

    none = "none"
    """One row a sequence, padded to the longest of its microbatch."""
    best_fit = "best_fit"
    """Several rows a sequence, the longest first into the fullest sequence that has room: none is cut, none sees
    another, positions begin anew with each."""


@dataclass
class TrainStage(StageConfig):
    """Trains a model; the artifact is a Hugging Face model folder."""

    artifact: ClassVar[str] = "model"

    architecture: Any = slot("architecture", optional=True)
    """What the model is; null takes that of the model in ``model``."""
    adapter: Any = slot("adapter", optional=True)
    """Few weights that are trained in place of the model's own (LoRA); what comes out is a plain model, with them
    folded in."""
    objective: Any = slot("objective")
    """What is optimised."""
    optimizer: Any = slot("optimizer")
    """How gradients become steps."""
    schedule: Any = slot("schedule")
    """How the learning rate moves over ``steps``."""
    initializer: Any = slot("initializer", optional=True)
    """How weights start; not needed where ``model`` names a stage to start from, or where the architecture brings its
    weights (``pretrained``)."""
    parallelism: Any = slot("parallelism", execution=True)
    """The layout over devices; left empty, it is the recipe's own."""
    data: str = from_stage("tokens", "corpus", default="tokens")
    """Packed tokens; or rows (chats, preference pairs): a corpus, which the objective encodes, or a tokens stage that
    did so."""
    more_data: list[str] = from_stage("tokens", default=[], optional=True)
    """Further packed tokens of the same tokenizer, mixed with ``data`` while training, by ``data_weights``."""
    data_weights: dict[str, float] = field(default_factory=dict, metadata={"identity": True})
    """Stage -> its share of the samples, where there is ``more_data``. Weights need not add up to 1: each counts as its
    share of their sum, and 0 leaves a source out. Empty: in proportion to their tokens."""
    tokenizer: str | None = from_stage("tokenizer", default=None, optional=True)
    """For a corpus: what encodes it; null takes the one that the stage in ``model`` carries."""
    reference: str | None = from_stage("reference", default=None, optional=True)
    """For rows: the score stage that computed what the objective compares with."""
    model: str | None = from_stage("model", default=None, optional=True)
    """The stage whose model to start from; null starts from the initializer."""
    steps: int = MISSING
    """Optimizer steps."""
    batch: int = 16
    """Sequences a step, over all devices; of rows that are not packed: documents (a preference pair is one)."""
    seq_len: int = 256
    """Tokens a sequence; of rows: the most that one may have."""
    overlong: Overlong = Overlong.drop
    """For rows: what happens to those above ``seq_len``."""
    packing: Packing = Packing.none
    """For rows: how they are laid into sequences; with ``best_fit`` ``batch`` and ``micro_batch`` count sequences."""
    trainable: list[str] = field(default_factory=list)
    """Only weights of these roles are trained (``embedding``, ``head``, ...); empty trains all."""
    trainable_layers: list[str] = field(default_factory=list, metadata={"identity": "value"})
    """Only weights of these layers are trained: numbers from 0, ranges such as ``24-31``, and ``added``, those that a
    merge added to the model (``block_expansion``). Empty trains all. A weight of such a layer must be of a role in
    ``trainable`` too; one outside of all layers (embedding, head, last norm) is frozen unless ``trainable`` names its
    role."""
    frozen_vocabulary: str | None = from_stage("tokenizer", "model", default=None, optional=True)
    """The stage whose vocabulary's rows of embedding and head stay as they are; rows beyond them are trained."""
    clip: float | None = 1.0
    """Largest global gradient norm; null does not clip."""
    precision: Precision = Precision.auto
    """float32, bfloat16, or auto: bfloat16 on CUDA and on processors that multiply it natively."""
    seed: int | None = None
    """Null takes the run's."""
    skip_nonfinite: int = 10
    """Steps in a row with a gradient that is not finite that are skipped before the run stops."""
    micro_batch: int | None = execution(None)
    """Sequences (of rows that are not packed: documents) in one forward pass; null takes the whole share of a
    device."""
    log_every: int = execution(1)
    """Steps between rows of metrics.jsonl."""
    validate_every: int = execution(0)
    """Steps between validations; 0 validates at the end only. The first step and the last are always included."""
    validation_tokens: int = execution(65_536)
    """Held-out tokens in a validation while training; the evaluate stage takes all."""
    checkpoint_every: int = execution(0)
    """Steps between checkpoints; 0 picks a cadence of about a minute."""
    keep_checkpoints: int = execution(2)
    """The last so many are kept while the stage is at work."""
    compile: bool = execution(False)
    """torch.compile the model."""

    def check(self) -> Iterator[str]:
        for name in ("steps", "batch", "seq_len", "log_every", "keep_checkpoints", "skip_nonfinite"):
            if getattr(self, name) < 1:
                yield f"{name} is {getattr(self, name)}; it must be at least 1"
        for name in ("validate_every", "checkpoint_every", "validation_tokens"):
            if getattr(self, name) < 0:
                yield f"{name} is {getattr(self, name)}; it must be at least 0"
        if self.clip is not None and self.clip <= 0:
            yield f"clip is {self.clip}; it must be above 0, or null for no clipping"
        if self.micro_batch is not None and self.micro_batch < 1:
            yield f"micro_batch is {self.micro_batch}; it must be at least 1, or null"
        yield from _frozen.of_settings(self)
        yield from _blends.problems(self)

    def check_recipe(self, recipe: Recipe, stage: str) -> Iterator[Problem | str]:
        makes = {other.name: other.config.artifact for other in recipe.stages}
        if makes.get(self.data) == "corpus" and self.tokenizer is None and self.model is None:
            cause = "that stage makes a corpus, and neither tokenizer nor model names what encodes its rows"
            packed = next((name for name, kind in makes.items() if kind == "tokens"), None)
            remedy = (
                f"{stage}.tokenizer=STAGE" if packed is None else f"{stage}.data={packed}, or {stage}.tokenizer=STAGE"
            )
            yield Problem(f"{stage}.data={self.data} cannot be trained on", cause, remedy)
        yield from _start.of_recipe(recipe, stage)
        yield from _blends.unmixable(recipe, stage)
        yield from _row_data.problems(recipe, stage)
        yield from _row_data.unpackable(recipe, stage)
        yield from _row_data.needs_reference(recipe, stage)
        yield from _adapter.of_recipe(recipe, stage)
        yield from _frozen.of_recipe(recipe, stage)
        yield from _shapes.mismatches(recipe, stage)
        yield from _shapes.too_long(recipe, stage)
