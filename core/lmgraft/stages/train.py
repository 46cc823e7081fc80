"""The kind of stage ``train``: steps an objective over packed tokens; the artifact is a Hugging Face model folder.

The work itself is a module-level function over plain data, so that a parallelism part can run it in place or in ranks
of its own; what it has to say goes through files under ``work`` (``lmgraft.training.events``). Nothing heavy is
imported until a model is really trained: a stage that the store already has is decided without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmgraft.artifacts import Artifact, checkpoint
from lmgraft.devices import resolve_precision
from lmgraft.errors import Problem, UserError
from lmgraft.stages.plugin import TrainStage

if TYPE_CHECKING:
    from lmgraft.artifacts.tokens import TokensInfo
    from lmgraft.component import StageConfig
    from lmgraft.seams.parallelism import Engine, EnginePlan
    from lmgraft.seams.stage import StageContext
    from lmgraft.training.validation import Validation

__all__ = ["Job", "Train", "work"]

SLOTS = ("architecture", "objective", "optimizer", "schedule", "initializer")


@dataclass(frozen=True, slots=True)
class Job:
    """What every rank needs in order to do its part: plain data, picklable."""

    settings: TrainStage
    parts: Mapping[str, tuple[Any, Any]]
    """Slot -> component and config; each rank builds its own."""
    tokens: Path
    model: Path | None
    """The model folder to start from."""
    folder: Path
    """The stage's work folder."""
    out: Path
    device: str
    precision: str
    seed: int

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def part(self, slot: str) -> Any:
        from lmgraft.registry import build

        return build(*self.parts[slot])


class Train:
    """Trains a model; see :class:`~lmgraft.stages.plugin.TrainStage` for its settings."""

    artifact = "model"

    def __init__(self, config: StageConfig) -> None:
        assert isinstance(config, TrainStage)
        self.config = config

    def identity(self, context: StageContext) -> Mapping[str, Any]:
        """``auto`` and null as they were resolved: the same recipe on a machine with other arithmetic is another
        stage."""
        return {"precision": self._precision(context), "seed": self._seed(context)}

    def run(self, context: StageContext) -> None:
        from lmgraft.artifacts import tokenizer
        from lmgraft.training.events import Follower

        job = self._job(context)
        held = self._check(context, job)
        parallelism = context.part("parallelism")
        with (
            context.progress(f"training {context.name}", self.config.steps, "step") as bar,
            Follower(context, job.folder, bar, job.checkpoints),
        ):
            parallelism.launch(partial(work, job))
        tokenizer.copy(job.tokens, context.out)
        checkpoint.set_token_ids(context.out, end_id=held.end_id, pad_id=held.pad_id)

    def summary(self, artifact: Artifact) -> Iterator[tuple[str, str]]:
        yield "parameters", f"{checkpoint.parameters(artifact.path):,}"
        size = sum(path.stat().st_size for path in artifact.path.glob("*.safetensors"))
        yield "size", f"{size / 1e6:,.1f} MB"

    def _seed(self, context: StageContext) -> int:
        return context.seed if self.config.seed is None else self.config.seed

    def _precision(self, context: StageContext) -> str:
        return resolve_precision(self.config.precision.value, context.device)

    def _job(self, context: StageContext) -> Job:
        slots = [slot for slot in SLOTS if getattr(self.config, slot) is not None]
        models = context.inputs.get("model") or []
        return Job(
            settings=self.config,
            parts={slot: context.component(slot) for slot in slots},
            tokens=context.inputs["data"][0].path,
            model=models[0].path if models else None,
            folder=context.work,
            out=context.out,
            device=context.device,
            precision=self._precision(context),
            seed=self._seed(context),
        )

    def _check(self, context: StageContext, job: Job) -> TokensInfo:
        """Refuses what cannot work, all of it at once, before a model is built."""
        from lmgraft.artifacts import tokens

        data = context.inputs["data"][0]
        if data.kind != "tokens":
            cause = f"stage {data.stage} makes a {data.kind}, and {context.name} trains on packed tokens"
            remedy = "add a stage of kind tokens between them, and name it in data"
            raise UserError(Problem(f"stage {context.name}: data={data.stage} cannot be trained on", cause, remedy))
        held = tokens.info(job.tokens)
        problems = list(_unfit(context.name, self.config, held, job.part("architecture").context()))
        if job.model is not None:
            problems += _other_vocabulary(context.name, held, job.model)
        if problems:
            raise UserError(problems)
        return held


def work(job: Job, make_engine: Callable[[EnginePlan], Engine]) -> None:
    """What a rank does: builds its parts, trains from the newest checkpoint, exports to ``job.out``."""
    from lmgraft.artifacts import tokens
    from lmgraft.seams.parallelism import EnginePlan
    from lmgraft.training.events import FileEvents, NoEvents
    from lmgraft.training.loader import Loader, PackedDataset
    from lmgraft.training.loop import LoopPlan, train

    settings = job.settings
    optimizer, schedule = job.part("optimizer"), job.part("schedule")
    plan = EnginePlan(
        architecture=job.part("architecture"),
        vocab_size=tokens.info(job.tokens).vocab_size,
        device=job.device,
        precision=job.precision,
        seed=job.seed,
        weights=job.model,
        initializer=job.part("initializer") if job.model is None else None,
        objective=job.part("objective"),
        optimizer=optimizer,
        clip=settings.clip,
        compile=settings.compile,
    )
    engine = make_engine(plan)
    loop = LoopPlan(
        steps=settings.steps,
        peak=optimizer.peak(),
        factor=schedule.factor,
        tokens=settings.batch * settings.seq_len,
        seed=job.seed,
        checkpoints=job.checkpoints,
        micro_batch=settings.micro_batch,
        skip_nonfinite=settings.skip_nonfinite,
        log_every=settings.log_every,
        validate_every=settings.validate_every,
        checkpoint_every=settings.checkpoint_every,
        keep_checkpoints=settings.keep_checkpoints,
    )
    events = FileEvents(job.folder) if engine.main else NoEvents(job.folder)
    loader = Loader(PackedDataset(job.tokens, "train", settings.seq_len), settings.batch, job.seed)
    train(engine, loader, _validation(job), loop, events)
    engine.export(job.out)


def _validation(job: Job) -> Validation | None:
    """Held-out loss, where the tokens hold a validation split and the settings ask for it."""
    from lmgraft.artifacts import tokenizer, tokens
    from lmgraft.training.loader import PackedDataset, validation_batches
    from lmgraft.training.validation import Validation

    held = tokens.info(job.tokens).splits.get("validation")
    settings = job.settings
    if held is None or not held.tokens or not settings.validation_tokens:
        return None
    dataset = PackedDataset(job.tokens, "validation", settings.seq_len)
    batches = partial(validation_batches, dataset, settings.micro_batch or settings.batch, settings.validation_tokens)
    return Validation(batches, tokenizer.load(job.tokens).token_bytes())


def _unfit(name: str, settings: TrainStage, held: TokensInfo, context: int) -> Iterator[Problem]:
    if settings.seq_len > context:
        yield Problem(
            f"stage {name}: seq_len={settings.seq_len}",
            f"the architecture is made for sequences of {context} tokens at most",
            f"set {name}.seq_len={context}, or give the architecture a longer context",
        )
    train, need = held.splits["train"].tokens, settings.batch * settings.seq_len
    if train < need:
        yield Problem(
            f"stage {name}: the training split of {settings.data} holds {train:,} tokens",
            f"one step takes batch * seq_len = {settings.batch} * {settings.seq_len} = {need:,} tokens",
            f"lower {name}.batch or {name}.seq_len, or give the corpus more text",
        )


def _other_vocabulary(name: str, held: TokensInfo, model: Path) -> Iterator[Problem]:
    from lmgraft.artifacts import tokenizer

    remedy = f"encode the corpus with the model's own tokenizer: the stage that {name}.data names takes a tokenizer"
    size = checkpoint.read_config(model).get("vocab_size")
    if size != held.vocab_size:
        cause = f"the model has {size} token embeddings and the tokens were encoded with {held.vocab_size}"
        yield Problem(f"stage {name}: model and data have different vocabularies", cause, remedy)
    elif (model / tokenizer.FILE).is_file() and tokenizer.load(model).fingerprint() != held.fingerprint:
        cause = "both have as many tokens, and the same ids stand for different ones"
        yield Problem(f"stage {name}: model and data have different vocabularies", cause, remedy)
