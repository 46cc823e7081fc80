"""Which layers a train stage trains: what ``trainable_layers`` names, and whether the model and the layout fit it.

The numbers are those of the whole model, from 0. ``added`` stands for those that a merge lists in the ``config.json``
of the model that training starts from (:data:`lmgraft.artifacts.layers.NEW_LAYERS`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lmgraft.errors import Problem
from lmgraft.seams.architecture import Role
from lmgraft.version import LAYERS

if TYPE_CHECKING:
    from lmgraft.recipe import Recipe, StageNode
    from lmgraft.seams.architecture import DecoderSpec, TensorRole
    from lmgraft.stages._job import Job
    from lmgraft.stages.train_settings import TrainStage

__all__ = ["ADDED", "chosen", "named", "of_recipe", "of_settings", "of_spec", "pass_on", "problems", "written"]

ADDED = "added"
#: A number, or the first and the last of a range.
_WRITTEN = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


def of_settings(settings: TrainStage) -> Iterator[str]:
    """What is no layer's number."""
    for name in settings.trainable_layers:
        match = _WRITTEN.fullmatch(str(name))  # OmegaConf lets a list stand among the words
        if match is not None and match[2] is not None and int(match[1]) > int(match[2]):
            yield f"trainable_layers names {name!r}, which ends before it begins; write {match[2]}-{match[1]}"
        elif match is None and name != ADDED:
            yield f"trainable_layers names {name!r}; write numbers from 0, ranges such as 24-31, or {ADDED}"


def named(settings: TrainStage) -> list[int | str]:
    """The numbers in their order, and ``added`` last where it is named: equal for settings that mean the same."""
    added: list[int | str] = [ADDED] if ADDED in settings.trainable_layers else []
    return [*sorted(_numbers(settings)), *added]


def chosen(job: Job) -> frozenset[int]:
    """The layers that are trained; empty is all."""
    return _numbers(job.settings) | frozenset(_added(job) if ADDED in job.settings.trainable_layers else ())


def of_recipe(recipe: Recipe, stage: str) -> Iterator[Problem]:
    """A layout that would train all layers, added layers of no model, and layers that the architecture does not have
    by its settings."""
    node = recipe.stage(stage)
    settings = cast("TrainStage", node.config)
    if not settings.trainable_layers:
        return
    yield from _unheard(node, stage)
    brings = any(part.seam == "architecture" and "weights" in part.config.provides() for part in node.parts)
    if ADDED in settings.trainable_layers and not node.inputs.get("model") and not brings:
        fact = f"{stage}.trainable_layers=[{ADDED}], and {stage} starts from no model"
        cause = "they are the layers that a merge added to the model"
        yield Problem(fact, cause, f"{stage}.model=STAGE of a merge such as block_expansion, or numbers of layers")


def _unheard(node: StageNode, stage: str) -> Iterator[Problem]:
    for part in node.parts:
        if part.seam == "parallelism" and part.installed.component.api < LAYERS:
            name, api = part.config.part, part.installed.component.api
            cause = f"it speaks version {api} of the parallelism seam, layers came with {LAYERS}: it would train all"
            own = part.installed.row.distribution
            remedy = f"parallelism@{stage}.parallelism=single, or a release of {own} whose {name} says api={LAYERS}"
            yield Problem(f"{stage}.trainable_layers does not go together with the layout {name}", cause, remedy)


def of_spec(stage: str, settings: TrainStage, spec: DecoderSpec, roles: Collection[Role]) -> Iterator[Problem]:
    """``roles``: of a standard decoder's parameters, whose layers are alike; none where an adapter is trained."""
    wanted = {role for role in Role if role.value in settings.trainable}
    inside = set(roles) - {Role.EMBEDDING, Role.POSITION, Role.HEAD}
    numbers = _numbers(settings)
    yield from _outside(stage, numbers, spec.layers)
    if settings.trainable_layers and wanted & set(roles) and not wanted & inside:
        yield _nothing(stage, wanted, inside)


def problems(stage: str, job: Job, roles: Collection[TensorRole], trainable: Collection[Role]) -> Iterator[Problem]:
    """What the model itself says: ``roles`` are those of its parameters, ``trainable`` the roles that are trained."""
    if not job.settings.trainable_layers:
        return
    depth = max((role.layer + 1 for role in roles if role.layer is not None), default=0)
    if ADDED in job.settings.trainable_layers and not _added(job):
        cause = "config.json of the model that it starts from lists no layers that a merge added"
        own = f"{stage}.trainable_layers=[{max(0, depth - 1)}] for the last by its number"
        remedy = f"{own}, or start from a merge such as block_expansion"
        yield Problem(f"stage {stage}: trainable_layers names {ADDED}, and there are none", cause, remedy)
        return
    numbers = chosen(job)
    wrong = list(_outside(stage, numbers, depth))
    yield from wrong
    inside = {role.role for role in roles if role.layer in numbers}
    if not wrong and trainable and set(trainable) & {role.role for role in roles} and not set(trainable) & inside:
        yield _nothing(stage, trainable, inside)


def pass_on(job: Job) -> None:
    """Training changes no layer's number: a later stage may name ``added`` too."""
    from lmgraft.artifacts import checkpoint, layers

    if found := _added(job):
        checkpoint.set_config(job.out, {layers.NEW_LAYERS: found})


def written(numbers: Collection[int]) -> str:
    """``layer 7``, ``layers 0, 24-31``."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    said = ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in found)
    return f"{'layer' if len(numbers) == 1 else 'layers'} {said}"


def _numbers(settings: TrainStage) -> frozenset[int]:
    matches = [match for name in settings.trainable_layers if (match := _WRITTEN.fullmatch(name))]
    return frozenset(number for match in matches for number in range(int(match[1]), int(match[2] or match[1]) + 1))


def _added(job: Job) -> list[int]:
    from lmgraft.artifacts import checkpoint, layers

    folder: Path | None = job.model or job.brought
    return [] if folder is None else layers.added(checkpoint.read_config(folder))


def _outside(stage: str, numbers: Collection[int], layers: int) -> Iterator[Problem]:
    if wrong := [number for number in numbers if number >= layers]:
        cause, remedy = "no parameter of the model is of a layer", f"{stage}.trainable_layers=[]"
        if layers:
            cause, remedy = f"the model has {layers} layers, 0 to {layers - 1}", f"name layers up to {layers - 1}"
        yield Problem(f"stage {stage}: trainable_layers names {written(wrong)}", cause, remedy)


def _nothing(stage: str, trainable: Collection[Role], inside: Collection[Role]) -> Problem:
    names = ",".join(sorted(role.value for role in trainable))
    fact = f"stage {stage}: trainable=[{names}] leaves nothing to train in the layers of trainable_layers"
    cause = f"their parameters are of the roles {', '.join(sorted(role.value for role in inside))}"
    return Problem(fact, cause, f"name some of these in {stage}.trainable as well, or {stage}.trainable_layers=[]")
