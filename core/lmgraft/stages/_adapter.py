"""What a train stage with an adapter needs: weights to adapt, a layout that takes them, something left to train."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lmgraft.errors import Problem
from lmgraft.seams.architecture import Role
from lmgraft.stages import _layers

if TYPE_CHECKING:
    from lmgraft.recipe import PartUse, Recipe
    from lmgraft.seams.architecture import Architecture
    from lmgraft.seams.stage import StageContext
    from lmgraft.stages._job import Job

__all__ = ["adapted", "of_recipe", "problems", "tell", "trainable"]


def of_recipe(recipe: Recipe, stage: str) -> Iterator[Problem]:
    """What the settings alone tell."""
    node = recipe.stage(stage)
    parts: dict[str, PartUse] = {part.slot: part for part in node.parts}
    if "adapter" not in parts:
        return
    name, architecture = parts["adapter"].config.part, parts.get("architecture")
    brings = architecture is not None and "weights" in architecture.config.provides()
    if not node.inputs.get("model") and not brings:
        fact = f"{stage}.adapter={name}, and {stage} starts from no model"
        cause = "an adapter changes weights that are there already, and an initializer's are not worth keeping"
        yield Problem(fact, cause, f"{stage}.model=STAGE, or architecture@{stage}.architecture=pretrained with a path")
    layout = parts.get("parallelism")
    if layout is not None and "decoder_spec" in layout.config.needs():
        fact = f"{stage}.adapter={name} does not go together with {layout.path}={layout.config.part}"
        cause = f"{layout.config.part} builds models of its own from a decoder's spec, which knows of no adapter"
        yield Problem(fact, cause, f"parallelism@{stage}.parallelism=single (or ddp)")


def adapted(job: Job) -> Architecture:
    """The stage's architecture, with its adapter in it where it has one.

    :raises UserError: the adapter finds nothing in it that it could be put to.
    """
    architecture: Architecture = job.part("architecture")
    if "adapter" not in job.parts:
        return architecture
    found: Architecture = job.part("adapter").adapt(architecture)
    return found


def trainable(job: Job) -> frozenset[Role]:
    """The roles that are trained; empty is all."""
    named = frozenset(Role(name) for name in job.settings.trainable)
    return named | {Role.ADAPTER} if "adapter" in job.parts else named


def problems(context: StageContext, job: Job) -> Iterator[Problem]:
    """Roles to train beside the adapter that the adapted model holds no parameter of, as a quantised base does; and
    layers in which the adapter is put to nothing."""
    if "adapter" not in job.parts:
        return
    architecture, name = adapted(job), job.parts["adapter"][0].name
    module = architecture.build(job.vocab_size, "meta")
    roles = [architecture.role(parameter) for parameter, _ in module.named_parameters()]
    there = {role.role for role in roles}
    yield from _layers.problems(context.name, job, roles, {Role.ADAPTER})
    for role in sorted(role.value for role in trainable(job) - there):
        cause = f"its parameters are of the roles {', '.join(sorted(one.value for one in there))}"
        fact = f"stage {context.name}: trainable names {role}, and the model with the adapter {name} has none of it"
        yield Problem(fact, cause, f"take {role} out of {context.name}.trainable")


def tell(context: StageContext, job: Job) -> None:
    """How few of the parameters are trained, to the person who waits."""
    if "adapter" not in job.parts:
        return
    from lmgraft.training.freezing import is_trained

    architecture, roles, layers = adapted(job), trainable(job), _layers.chosen(job)
    module = architecture.build(job.vocab_size, "meta")
    sizes = {name: parameter.numel() for name, parameter in module.named_parameters()}
    few = sum(size for name, size in sizes.items() if is_trained(architecture.role(name), roles, layers))
    more = f" and {', '.join(job.settings.trainable)}" if job.settings.trainable else ""
    more += f" in the {_layers.written(layers)}" if layers else ""
    name = job.parts["adapter"][0].name
    context.note(f"training the adapter {name}{more}: {few:,} parameters; the others are frozen")
