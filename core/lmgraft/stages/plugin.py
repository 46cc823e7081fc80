"""Core's own kinds of stage, offered the way a plugin offers them: settings and strings, nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from lmgraft.component import Component, ComponentConfig, StageConfig, execution, from_stage, slot, slots
from lmgraft.errors import Problem
from lmgraft.hookspecs import hookimpl
from lmgraft.stages import _row_data, executors
from lmgraft.stages._models_taken import miscounted
from lmgraft.stages.encoders import Encoder
from lmgraft.stages.executors import Executor
from lmgraft.stages.export_settings import ExportStage
from lmgraft.stages.mixing import Mixture
from lmgraft.stages.train_settings import Overlong, Packing, Precision, TrainStage

if TYPE_CHECKING:
    from lmgraft.recipe import Recipe

__all__ = [
    "CorpusStage",
    "Corrupt",
    "EvaluateStage",
    "ExportStage",
    "MergeStage",
    "Overlong",
    "Packing",
    "Precision",
    "Sample",
    "ScoreStage",
    "TokenizerStage",
    "TokensStage",
    "TrainStage",
]


class Corrupt(Enum):
    """What happens at input that cannot be read: a broken line, a row without its column, an archive cut short."""

    stop = "stop"
    """The stage stops at the first one and says where it is."""
    quarantine = "quarantine"
    """Each is counted by its reason, set down in the artifact's ``quarantine.jsonl``, and passed over."""


@dataclass
class CorpusStage(StageConfig):
    """Reads sources, applies filters, holds out whole groups: Parquet shards and the funnel."""

    artifact: ClassVar[str] = "corpus"

    sources: dict[str, Any] = slots("data_source", optional=False)
    """Where documents come from; read in this order."""
    fallback: list[str] = field(default_factory=list)
    """Sources that are read only when no other source has been pointed at anything (its config's ``ready()``)."""
    filters: dict[str, Any] = slots("filter")
    """What keeps, rewrites or drops them; called in this order."""
    mixture: Mixture = field(default_factory=Mixture)
    """How much each source contributes, by weight; without weights each gives what it has."""
    corrupt: Corrupt = Corrupt.stop
    """What cannot be read: ``stop`` at the first, or ``quarantine``, which counts them all and goes on."""
    max_bytes: int | None = None
    """Take documents, whole files in a seeded order, until this many bytes of text; None takes all."""
    validation_bytes: int = 0
    """Hold out whole groups (files) until at least this many bytes of text; 0 holds out nothing."""
    shard_bytes: int = 128 << 20
    """Text bytes of a Parquet shard."""
    executor: Executor = execution(Executor.processes)
    """Who does the work: processes, or ray."""
    workers: int = execution(0)
    """Processes (or actors); 0 takes one per processor core."""
    memory_mb: int = execution(512)
    """Memory for sorting what corpus-wise filters spool to disk, over all workers."""

    def check(self) -> Iterator[str]:
        if self.validation_bytes < 0:
            yield f"validation_bytes is {self.validation_bytes}; it counts bytes and cannot be negative"
        if self.max_bytes is not None and self.max_bytes < 1:
            yield f"max_bytes is {self.max_bytes}; it must be at least 1, or null for everything"
        if self.shard_bytes < 1 << 10:
            yield f"shard_bytes is {self.shard_bytes}; a shard holds at least 1024 bytes"
        if self.workers < 0:
            yield f"workers is {self.workers}; 0 takes one per core, otherwise at least 1"
        if self.memory_mb < 16:
            yield f"memory_mb is {self.memory_mb}; sorting needs at least 16"
        for name in self.fallback:
            if name not in self.sources:
                yield f"fallback names {name!r}, which is not among the sources ({', '.join(self.sources)})"
        yield from self.mixture.problems(self.sources, self.fallback)

    def check_recipe(self, recipe: Recipe, stage: str) -> Iterator[Problem | str]:
        """A source that has a weight and nothing to read would change the mixture without a word."""
        yield from executors.missing(self.executor, stage)
        parts = {use.slot.partition(".")[2]: use for use in recipe.stage(stage).parts if use.seam == "data_source"}
        chosen = self.reading([name for name, use in parts.items() if use.config.ready()])
        if not chosen or all(name in self.fallback for name in chosen):
            return
        for name, use in parts.items():
            if name not in chosen and name not in self.fallback and self.mixture.weights.get(name):
                cause = f"it has the weight {self.mixture.weights[name]:g} in {stage}.mixture"
                remedy = f"{use.path}.path=PATH, or {stage}.mixture.weights.{name}=0"
                yield Problem(f"{use.path} is not set", cause, remedy)

    def provides(self) -> frozenset[str]:
        return frozenset({"split:validation"} if self.validation_bytes > 0 else ())

    def idle(self, parts: Mapping[str, ComponentConfig]) -> frozenset[str]:
        """The fallback beside sources that are ready, or else these; none where there is nothing to read at all."""
        sources = {slot.partition(".")[2]: part for slot, part in parts.items() if slot.startswith("sources.")}
        chosen = self.reading([name for name, part in sources.items() if part.ready()])
        return frozenset(f"sources.{name}" for name in sources if chosen and name not in chosen)

    def reading(self, ready: Sequence[str]) -> list[str]:
        """Of the sources that are ready those that are read: the ones that are no fallback, or else the fallback."""
        return [name for name in ready if name not in self.fallback] or list(ready)


@dataclass
class TokenizerStage(StageConfig):
    """Trains (or loads, or extends) a tokenizer on the training documents."""

    artifact: ClassVar[str] = "tokenizer"

    tokenizer: Any = slot("tokenizer")
    """What is trained, loaded or extended."""
    corpus: str = from_stage("corpus", default="corpus")
    """Its training documents are learnt from."""
    base: str | None = from_stage("tokenizer", "model", default=None, optional=True)
    """The stage whose tokenizer is extended by a part that extends; with any other part it is only compared with."""
    sample_bytes: int = 64 << 20
    """Text that the vocabulary is learnt from: documents spread evenly over the corpus up to this many bytes."""
    measure_bytes: int = 1 << 20
    """Text of each source on which the finished tokenizer is measured, and compared with ``base``."""
    also_measured: list[str] = from_stage("corpus", default=[], optional=True)
    """Further corpora on which it is measured and compared: an old language whose encoding is to stay."""

    def check(self) -> Iterator[str]:
        for name in ("sample_bytes", "measure_bytes"):
            if getattr(self, name) < 1:
                yield f"{name} is {getattr(self, name)}; it must be at least 1"


@dataclass
class TokensStage(StageConfig):
    """Encodes a corpus, once for all stages that train on it: plain text into Megatron's .bin/.idx, one pair of files a
    split; with an objective, its rows (chats, preference pairs) into Parquet with their masks."""

    artifact: ClassVar[str] = "tokens"

    corpus: str = from_stage("corpus", default="corpus")
    """The documents to encode, all splits."""
    tokenizer: str = from_stage("tokenizer", "model", default="tokenizer")
    """What encodes them."""
    objective: Any = slot("objective", optional=True)
    """For rows: what makes examples of them; null packs plain text."""
    encoder: Encoder = execution(Encoder.auto)
    """The library that encodes plain text; ids are the same."""
    workers: int = execution(0)
    """Threads that encode; 0 takes one per processor core."""

    def provides(self) -> frozenset[str]:
        """An objective here only encodes, for which it needs no reference; who trains on the rows does."""
        return frozenset({"reference"} if self.objective is not None else ())

    def check(self) -> Iterator[str]:
        if self.workers < 0:
            yield f"workers is {self.workers}; 0 takes one per core, otherwise at least 1"
        if self.objective is not None and self.encoder is Encoder.gigatoken:
            yield "encoder is gigatoken, which takes whole texts; rows are encoded in pieces: auto or tokenizers"


@dataclass
class MergeStage(StageConfig):
    """Makes one model of one or several; the artifact is a Hugging Face model folder."""

    artifact: ClassVar[str] = "model"

    merge: Any = slot("merge")
    """What makes one model of them."""
    models: list[str] = from_stage("model", default=["pretrain"])
    """The models, in the order that the merge part takes them in; the first one's tokenizer goes with the result."""
    tokenizer: str | None = from_stage("tokenizer", default=None, optional=True)
    """For a part that gives the model another vocabulary: the tokenizer that it is for, which goes with the result."""

    def check(self) -> Iterator[str]:
        if not self.models:
            yield "models is empty; name at least one stage that makes a model"

    def check_recipe(self, recipe: Recipe, stage: str) -> Iterator[Problem | str]:
        for part in recipe.stage(stage).parts:
            if part.seam != "merge":
                continue
            name = part.installed.component.name
            wrong = miscounted(name, part.config, len(self.models)) if self.models else None
            if wrong is not None:
                fact, cause = wrong
                _, most = getattr(part.config, "takes_models", (0, None))
                kept = self.models[:most] if most is not None and most < len(self.models) else [*self.models, "STAGE"]
                remedy = f"{stage}.models=[{','.join(kept)}]"
                yield Problem(f"{stage}.models=[{','.join(self.models)}]: {fact}", cause, remedy)
            if self.tokenizer and not getattr(part.config, "takes_tokenizer", False):
                cause = f"{name} leaves the vocabulary as it is, and the result would be read by another tokenizer"
                remedy = f"{stage}.tokenizer=null, or a part that changes it: merge@{stage}.merge=vocabulary_rows"
                yield Problem(f"{stage}.tokenizer={self.tokenizer} means nothing to {name}", cause, remedy)


@dataclass
class ScoreStage(StageConfig):
    """A model's summed log-probability of every sequence that the objective makes of a corpus: what preference tuning
    compares with, computed once and shared by every run that follows."""

    artifact: ClassVar[str] = "reference"

    objective: Any = slot("objective")
    """Encodes the rows. A node of its own: settings of the loss that vary in a sweep do not score anew."""
    parallelism: Any = slot("parallelism", execution=True)
    """The layout over devices; left empty, it is the recipe's own."""
    data: str = from_stage("corpus", "tokens", default="pairs")
    """The rows to score, all splits: of a corpus, or encoded by a tokens stage with the same objective."""
    model: str = from_stage("model", default="sft")
    """The reference."""
    precision: Precision = Precision.auto
    """float32, bfloat16, or auto: bfloat16 on CUDA and on processors that multiply it natively."""
    micro_batch: int = execution(16)
    """Documents in one forward pass."""

    def provides(self) -> frozenset[str]:
        return frozenset({"reference"})

    def check(self) -> Iterator[str]:
        if self.micro_batch < 1:
            yield f"micro_batch is {self.micro_batch}; it must be at least 1"

    def check_recipe(self, recipe: Recipe, stage: str) -> Iterator[Problem | str]:
        yield from _row_data.problems(recipe, stage)


@dataclass
class Sample:
    """Text that the finished model writes, for the report and the table at the end."""

    prompts: list[str] = field(default_factory=list)
    """Beginnings of documents, continued by every model."""
    max_new_tokens: int = 96
    """Tokens at most."""
    temperature: float = 0.7
    """Logits are divided by it; 0 takes the most probable token."""
    top_k: int = 0
    """Only the k most probable tokens; 0 takes all."""
    top_p: float = 0.95
    """Only the most probable tokens that make up this much probability; 1 takes all."""
    chat: list[str] = field(default_factory=list)
    """Questions, asked in the chat template of those models that have one."""


@dataclass
class EvaluateStage(StageConfig):
    """Scores models and lets them write: scores.json and samples.json."""

    artifact: ClassVar[str] = "scores"

    evaluators: dict[str, Any] = slots("evaluator", optional=False)
    """What is measured, of every model."""
    parallelism: Any = slot("parallelism", execution=True)
    """The layout over devices; left empty, it is the recipe's own."""
    models: list[str] = from_stage("model", default=["pretrain"])
    """The models to score, each in a row of the table."""
    corpus: list[str] = from_stage("corpus", default=["corpus"], optional=True)
    """Corpora that evaluators read; each takes those with the columns that it needs."""
    limit: int | None = None
    """Items an evaluator takes at most; null takes all."""
    precision: Precision = Precision.auto
    """float32, bfloat16, or auto: bfloat16 on CUDA and on processors that multiply it natively."""
    sample: Sample = field(default_factory=Sample)
    """Text that each model writes."""

    def check(self) -> Iterator[str]:
        if self.limit is not None and self.limit < 1:
            yield f"limit is {self.limit}; it must be at least 1, or null for everything"
        if not self.models:
            yield "models is empty; name at least one stage that makes a model"
        if self.sample.temperature < 0:
            yield f"sample.temperature is {self.sample.temperature}; it must be at least 0 (0 is greedy)"
        if not 0 < self.sample.top_p <= 1:
            yield f"sample.top_p is {self.sample.top_p}; it must be in (0, 1]"


@hookimpl
def lmgraft_stage() -> list[Component[Any]]:
    # Raise a kind's revision when its code gives other bytes for the same config: every key of that kind changes.
    return [
        Component(
            name="corpus",
            target="lmgraft.stages.corpus:Corpus",
            config=CorpusStage,
            summary="Sources through filters to Parquet shards, with a funnel",
        ),
        Component(
            name="tokenizer",
            target="lmgraft.stages.tokenizer:TrainTokenizer",
            config=TokenizerStage,
            summary="A tokenizer learnt from a corpus",
            revision=2,
        ),
        Component(
            name="tokens",
            target="lmgraft.stages.tokens:Tokens",
            config=TokensStage,
            summary="A corpus encoded and packed as Megatron .bin/.idx",
            revision=3,
        ),
        Component(
            name="train",
            target="lmgraft.stages.train:Train",
            config=TrainStage,
            summary="Steps an objective; a Hugging Face model folder",
            revision=3,
        ),
        Component(
            name="merge",
            target="lmgraft.stages.merge:MergeModels",
            config=MergeStage,
            summary="One model made of one or several, tensor by tensor",
        ),
        Component(
            name="score",
            target="lmgraft.stages.score:ScoreRows",
            config=ScoreStage,
            summary="A reference's log-probabilities of encoded rows",
            revision=2,
        ),
        Component(
            name="evaluate",
            target="lmgraft.stages.evaluate:Evaluate",
            config=EvaluateStage,
            summary="Scores and samples of models, in one table",
            revision=3,
        ),
        Component(
            name="export",
            target="lmgraft.stages.export:Export",
            config=ExportStage,
            summary="A model in the format in which it leaves: hf, gguf",
        ),
    ]
