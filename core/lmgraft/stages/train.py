"""The kind of stage ``train``: steps an objective; the artifact is a Hugging Face model folder.

It reads packed tokens, or rows: of a corpus, which the objective encodes, or of a tokens stage that did so
(``lmgraft.training.examples``).

The work itself is a module-level function over plain data, so that a parallelism part can run it in place or in ranks
of its own; what it has to say goes through files under ``work`` (``lmgraft.training.events``). Nothing heavy is
imported until a model is really trained: a stage that the store already has is decided without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmgraft.artifacts import Artifact, checkpoint
from lmgraft.devices import resolve_precision
from lmgraft.errors import Problem, UserError
from lmgraft.stages import _adapter as adapter
from lmgraft.stages import _feed as feed
from lmgraft.stages import _frozen as frozen
from lmgraft.stages import _layers as layers
from lmgraft.stages import _packed as packed
from lmgraft.stages import _rows as rows
from lmgraft.stages import _start as start
from lmgraft.stages._job import Job
from lmgraft.stages.train_settings import TrainStage

if TYPE_CHECKING:
    from lmgraft.component import StageConfig
    from lmgraft.seams.parallelism import Engine, EnginePlan
    from lmgraft.seams.stage import StageContext

__all__ = ["Job", "Train", "work"]

SLOTS = ("architecture", "adapter", "objective", "optimizer", "schedule", "initializer")


class Train:
    """Trains a model; see :class:`~lmgraft.stages.plugin.TrainStage` for its settings."""

    artifact = "model"

    def __init__(self, config: StageConfig) -> None:
        assert isinstance(config, TrainStage)
        self.config = config

    def identity(self, context: StageContext) -> Mapping[str, Any]:
        """``auto`` and null as they were resolved: the same recipe on a machine with other arithmetic is another
        stage."""
        found: dict[str, Any] = {"precision": self._precision(context), "seed": self._seed(context)}
        chosen = context.component("architecture") if self.config.architecture is not None else None
        found |= start.identity(context, chosen)
        if weights := self.config.data_weights:
            # In the order of the inputs: what stages are called decides nothing, and which has which weight does.
            found["weights"] = [weights[stage] for stage in (self.config.data, *self.config.more_data)]
        if self.config.trainable_layers:
            found["trainable_layers"] = layers.named(self.config)
        return found

    def run(self, context: StageContext) -> None:
        from lmgraft import chat
        from lmgraft.artifacts import tokenizer
        from lmgraft.seams.tokenizer import first_id
        from lmgraft.stages import _token_ids as token_ids
        from lmgraft.training.events import Follower

        job = self._job(context)
        self._check(context, job)
        if job.tokens is None:
            rows.lay_out(context, job)
        else:
            token_ids.check(context, packed.sources(job), job.vocab_size)
            packed.tell(context, job)
        frozen.tell(context, job)
        adapter.tell(context, job)
        start.tell(context, job)
        parallelism = context.part("parallelism")
        with (
            context.progress(f"training {context.name}", self.config.steps, "step") as bar,
            Follower(context, job.folder, bar, job.checkpoints),
        ):
            parallelism.launch(partial(work, job))
        layers.pass_on(job)
        tokenizer.copy(job.tokenizer, context.out)
        template = getattr(job.part("objective"), "chat_template", None)
        if template is not None:
            tokenizer.set_chat_template(context.out, template(tokenizer.load(job.tokenizer)))
        saved = tokenizer.load(context.out)
        stops = chat.stop_ids(saved, saved.chat_template)
        checkpoint.set_token_ids(
            context.out, end_id=saved.end_id, pad_id=saved.pad_id, stop_ids=stops, first_id=first_id(saved)
        )

    def summary(self, artifact: Artifact) -> Iterator[tuple[str, str]]:
        yield "parameters", f"{checkpoint.parameters(artifact.path):,}"
        size = sum(path.stat().st_size for path in artifact.path.glob("*.safetensors"))
        yield "size", f"{size / 1e6:,.1f} MB"

    def _seed(self, context: StageContext) -> int:
        return context.seed if self.config.seed is None else self.config.seed

    def _precision(self, context: StageContext) -> str:
        return resolve_precision(self.config.precision.value, context.device)

    def _job(self, context: StageContext) -> Job:
        from lmgraft.artifacts import examples, tokenizer

        slots = [slot for slot in SLOTS if getattr(self.config, slot) is not None]
        models = context.inputs.get("model") or []
        old_vocabulary = context.inputs.get("frozen_vocabulary") or []
        data = context.inputs["data"][0]
        folder = self._tokenizer(context)
        model = models[0].path if models else None
        parts = {slot: context.component(slot) for slot in slots}
        if model is not None and "architecture" not in parts:
            parts["architecture"] = start.architecture_of(context, model)
        return Job(
            settings=self.config,
            parts=parts,
            tokenizer=folder,
            vocab_size=tokenizer.load(folder).vocab_size,
            tokens=data.path if data.kind == "tokens" and not examples.is_rows(data.path) else None,
            more_tokens={more.stage: more.path for more in context.inputs.get("more_data") or ()},
            frozen_rows=max((tokenizer.load(old.path).vocab_size for old in old_vocabulary), default=0),
            model=model,
            brought=start.brought(parts["architecture"][1]) if model is None else None,
            folder=context.work,
            out=context.out,
            device=context.device,
            precision=self._precision(context),
            seed=self._seed(context),
        )

    def _tokenizer(self, context: StageContext) -> Path:
        """Packed tokens carry the tokenizer that encoded them; rows are encoded by the one that is named, or else by
        the model's own."""
        data = context.inputs["data"][0]
        if data.kind == "tokens":
            return data.path
        if data.kind != "corpus":
            cause = f"stage {data.stage} makes a {data.kind}, and {context.name} trains on packed tokens or on rows"
            remedy = "add a stage of kind tokens between them, and name it in data"
            raise UserError(Problem(f"stage {context.name}: data={data.stage} cannot be trained on", cause, remedy))
        for role in ("tokenizer", "model"):
            if given := context.inputs.get(role):
                return given[0].path
        cause = f"the rows of {data.stage} are text, and neither tokenizer nor model names what encodes them"
        raise UserError(Problem(f"stage {context.name} has no tokenizer", cause, f"{context.name}.tokenizer=tokenizer"))

    def _check(self, context: StageContext, job: Job) -> None:
        """Refuses what cannot work, all of it at once, before a model is built."""
        from lmgraft.artifacts import tokenizer

        problems = list(_too_long(context.name, self.config, job.part("architecture").context()))
        if job.tokens is not None:
            problems += packed.problems(context.name, job)
        fingerprint = tokenizer.load(job.tokenizer).fingerprint()
        if job.model is not None:
            problems += _other_vocabulary(context.name, job.vocab_size, fingerprint, job.model)
        problems += start.problems(context, job)
        problems += adapter.problems(context, job)
        problems += frozen.problems(context, job)
        problems += rows.encoded_otherwise(context, context.inputs["data"][0])
        for artifact in context.inputs.get("reference") or ():
            problems += _other_reference(context, artifact, fingerprint)
        if job.tokens is None and not context.inputs.get("reference"):
            problems += _no_reference(context.name, job)
        if problems:
            raise UserError(problems)


def work(job: Job, make_engine: Callable[[EnginePlan], Engine]) -> None:
    """What a rank does: builds its parts, trains from the newest checkpoint, exports to ``job.out``."""
    from lmgraft.seams.parallelism import EnginePlan
    from lmgraft.training.events import FileEvents, NoEvents
    from lmgraft.training.loop import LoopPlan, train

    settings = job.settings
    optimizer, schedule = job.part("optimizer"), job.part("schedule")
    plan = EnginePlan(
        architecture=adapter.adapted(job),
        vocab_size=job.vocab_size,
        device=job.device,
        precision=job.precision,
        seed=job.seed,
        weights=job.model or job.brought,
        initializer=job.part("initializer") if "initializer" in job.parts else None,
        objective=job.part("objective"),
        optimizer=optimizer,
        clip=settings.clip,
        compile=settings.compile,
        trainable=adapter.trainable(job),
        trainable_layers=layers.chosen(job),
        frozen_rows=job.frozen_rows,
    )
    engine = make_engine(plan)
    loop = LoopPlan(
        steps=settings.steps,
        peak=optimizer.peak(),
        factor=schedule.factor,
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
    train(engine, feed.loader(job), feed.validation(job), loop, events)
    engine.export(job.out)


def _too_long(name: str, settings: TrainStage, context: int) -> Iterator[Problem]:
    if settings.seq_len > context:
        yield Problem(
            f"stage {name}: seq_len={settings.seq_len}",
            f"the architecture is made for sequences of {context} tokens at most",
            f"set {name}.seq_len={context}, or give the architecture a longer context",
        )


def _other_vocabulary(name: str, vocab_size: int, fingerprint: str, model: Path) -> Iterator[Problem]:
    from lmgraft.artifacts import tokenizer

    remedy = f"encode the corpus with the model's own tokenizer: the stage that {name}.data names takes a tokenizer"
    size = checkpoint.read_config(model).get("vocab_size")
    if size != vocab_size:
        cause = f"the model has {size} token embeddings and the tokens were encoded with {vocab_size}"
        yield Problem(f"stage {name}: model and data have different vocabularies", cause, remedy)
    elif (model / tokenizer.FILE).is_file() and tokenizer.load(model).fingerprint() != fingerprint:
        cause = "both have as many tokens, and the same ids stand for different ones"
        yield Problem(f"stage {name}: model and data have different vocabularies", cause, remedy)


def _other_reference(context: StageContext, artifact: Artifact, fingerprint: str) -> Iterator[Problem]:
    from lmgraft.artifacts import reference

    told = reference.info(artifact.path)
    fact = f"stage {context.name}: reference={artifact.stage} does not fit"
    if told.fingerprint != fingerprint:
        cause = "its model has another tokenizer, so its log-probabilities are of other tokens"
        yield Problem(fact, cause, f"score with a model of the same tokenizer: {artifact.stage}.model=STAGE")
    data = context.inputs["data"][0]
    if told.corpus != rows.corpus_of(data):
        cause = f"it was computed on another corpus than {data.stage}"
        yield Problem(fact, cause, f"{artifact.stage}.data={data.stage}")


def _no_reference(name: str, job: Job) -> Iterator[Problem]:
    wanted: frozenset[str] = getattr(job.part("objective"), "values", frozenset)()
    if "reference" in wanted:
        component, _ = job.parts["objective"]
        cause = f"the objective {component.name} compares with a reference's log-probabilities"
        yield Problem(f"stage {name} has no reference", cause, f"add a stage of kind score, and {name}.reference=STAGE")
