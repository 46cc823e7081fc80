"""What a train stage leaves as it is: whether ``trainable``, ``trainable_layers`` and ``frozen_vocabulary`` fit
the model and the data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lmgraft.errors import Problem
from lmgraft.seams.architecture import Role
from lmgraft.stages import _layers, _shapes

if TYPE_CHECKING:
    from lmgraft.recipe import Recipe
    from lmgraft.seams.architecture import DecoderSpec
    from lmgraft.seams.stage import StageContext
    from lmgraft.stages._job import Job
    from lmgraft.stages.train_settings import TrainStage

__all__ = ["of_recipe", "of_settings", "problems", "tell"]

TABLES = frozenset({Role.EMBEDDING, Role.HEAD})


def of_settings(settings: TrainStage) -> Iterator[str]:
    roles = [role.value for role in Role]
    for name in settings.trainable:
        if name not in roles:
            yield f"trainable names {name!r}; roles of weights are {', '.join(roles)}"
    yield from _layers.of_settings(settings)


def of_recipe(recipe: Recipe, stage: str) -> Iterator[Problem]:
    """Frozen rows of no model, and roles that a decoder of these settings does not have; other architectures are asked
    once they are built."""
    node = recipe.stage(stage)
    settings = cast("TrainStage", node.config)
    if settings.frozen_vocabulary is not None and settings.model is None:
        yield Problem(
            f"{stage}.frozen_vocabulary={settings.frozen_vocabulary}, and {stage} starts from no model",
            "it would keep rows as the initializer draws them",
            f"{stage}.model=STAGE, or {stage}.frozen_vocabulary=null",
        )
    spec, wanted = _shapes.spec_of(node), _wanted(settings)
    adapted = any(part.seam == "adapter" for part in node.parts)
    if spec is not None and wanted and not adapted:
        yield from _no_such_roles(stage, wanted, _roles_of(spec))
    yield from _layers.of_recipe(recipe, stage)
    if spec is not None and settings.trainable_layers:
        yield from _layers.of_spec(stage, settings, spec, frozenset() if adapted else _roles_of(spec))


def problems(context: StageContext, job: Job) -> Iterator[Problem]:
    """What the built model and the vocabularies themselves say."""
    wanted = _wanted(job.settings)
    if (wanted or job.settings.trainable_layers) and "adapter" not in job.parts:
        architecture = job.part("architecture")
        roles = [architecture.role(name) for name, _ in architecture.build(job.vocab_size, "meta").named_parameters()]
        if wanted:
            yield from _no_such_roles(context.name, wanted, frozenset(role.role for role in roles))
        yield from _layers.problems(context.name, job, roles, wanted)
    for old in context.inputs.get("frozen_vocabulary") or ():
        yield from _other_rows(context.name, job, old.stage, old.path)


def tell(context: StageContext, job: Job) -> None:
    """What stays as it is, to the person who waits."""
    layers, roles = _layers.chosen(job), ", ".join(job.settings.trainable)
    if (roles or layers) and "adapter" not in job.parts:
        start = "" if job.model or job.brought else ", which keep what the initializer drew"
        where = f" in the {_layers.written(layers)} and outside of all" if layers else ""
        what = f"{roles} alone{where}" if roles else f"the {_layers.written(layers)} alone"
        context.note(f"training {what}; the other weights are frozen{start}")
    if job.frozen_rows and (not layers or _wanted(job.settings) & TABLES):
        left = job.vocab_size - job.frozen_rows
        context.note(f"rows of embedding and head: {job.frozen_rows:,} are frozen, {left:,} are not")


def _no_such_roles(stage: str, wanted: frozenset[Role], there: frozenset[Role]) -> Iterator[Problem]:
    if wanted & there:
        return
    named = ",".join(sorted(role.value for role in wanted))
    cause = (
        f"the architecture has no parameter of such a role; its roles are {', '.join(sorted(r.value for r in there))}"
    )
    if Role.HEAD in wanted and Role.EMBEDDING in there:
        cause += ", and its head is the embedding"
    remedy = f"{stage}.trainable=[embedding]" if wanted <= TABLES else f"name some of these in {stage}.trainable"
    yield Problem(f"{stage}.trainable=[{named}] leaves nothing to train", cause, remedy)


def _other_rows(stage: str, job: Job, origin: str, folder: Path) -> Iterator[Problem]:
    from lmgraft.artifacts import tokenizer
    from lmgraft.tokenview.comparing import first_other

    old, new = tokenizer.load(folder), tokenizer.load(job.tokenizer)
    fact = f"stage {stage}: frozen_vocabulary={origin} does not fit"
    if old.vocab_size > new.vocab_size:
        cause = f"it has {old.vocab_size:,} tokens, and the data were encoded with {new.vocab_size:,}"
        yield Problem(fact, cause, f"name the smaller vocabulary that was extended, or {stage}.frozen_vocabulary=null")
    elif (pieces := first_other(folder, job.tokenizer)) is not None:
        cause = "rows are frozen by their number, and id {} is {} there and {} in the data's".format(*pieces)
        yield Problem(fact, cause, "extend a vocabulary with the tokenizer `extended`, which changes no old id")
    elif old.vocab_size == new.vocab_size and (wanted := _wanted(job.settings)) and wanted <= TABLES:
        named = ",".join(sorted(role.value for role in wanted))
        cause = f"{origin} has all {new.vocab_size:,} tokens of the data, so every row of {named} is frozen"
        remedy = f"name the vocabulary before it was extended, or {stage}.frozen_vocabulary=null"
        yield Problem(f"{stage}.trainable=[{named}] leaves nothing to train", cause, remedy)


def _wanted(settings: TrainStage) -> frozenset[Role]:
    """Those that there are; names of no role are refused by themselves."""
    return frozenset(role for role in Role if role.value in settings.trainable)


def _roles_of(spec: DecoderSpec) -> frozenset[Role]:
    """The roles of a standard decoder's parameters, as ``DECODER_NAMES`` lists them."""
    there = {Role.EMBEDDING, Role.QUERY, Role.KEY, Role.VALUE, Role.ATTENTION_OUT, Role.MLP_IN, Role.MLP_OUT}
    switches = {
        Role.HEAD: not spec.tied,
        Role.POSITION: spec.positions == "learned",
        Role.NORM: spec.norm != "none",
        Role.MLP_GATE: spec.gated,
        Role.BIAS: spec.bias or spec.qkv_bias or spec.norm == "layernorm",
        Role.OTHER: spec.experts > 0,
    }
    return frozenset(there | {role for role, has in switches.items() if has})
