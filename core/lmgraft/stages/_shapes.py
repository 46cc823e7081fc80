"""Whether a train stage's architecture is that of the model it starts from, and long enough for its sequences: told
from settings alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lmgraft.errors import Problem

if TYPE_CHECKING:
    from lmgraft.recipe import Recipe, StageNode
    from lmgraft.seams.architecture import DecoderSpec

__all__ = ["mismatches", "spec_of", "too_long"]

#: What may differ between two stages of one model: none of it shapes a tensor.
FREE = frozenset({"context", "norm_eps", "rope_theta"})


def mismatches(recipe: Recipe, stage: str) -> Iterator[Problem]:
    """A problem for each setting in which ``stage.architecture`` differs from the stage named in ``stage.model``.

    A merge in between keeps everything but the number of layers, which is the merge's to judge. Architectures whose
    settings tell no :class:`DecoderSpec` are left to the loading of weights.
    """
    node = recipe.stage(stage)
    ours = spec_of(node)
    names = node.inputs.get("model", ())
    origin, merged = _origin(recipe, names[0]) if names else (None, False)
    theirs = spec_of(origin) if origin is not None else None
    if ours is None or theirs is None or origin is None:
        return
    settings = {
        field.name for part in node.parts if part.seam == "architecture" for field in dataclasses.fields(part.config)
    }
    for field in dataclasses.fields(ours):
        mine, other = getattr(ours, field.name), getattr(theirs, field.name)
        if mine == other or field.name in FREE or (merged and field.name == "layers"):
            continue
        if field.name == "head_dim" and {"hidden", "heads"} & {
            spec.name for spec in dataclasses.fields(ours) if getattr(ours, spec.name) != getattr(theirs, spec.name)
        }:
            continue  # it follows from those, which are told
        key = f"{stage}.architecture.{field.name}"
        word = _written(other)
        typed = field.name in settings and not dataclasses.is_dataclass(other or mine)
        remedy = f"{key}={word}" if typed else f"{stage}.architecture=null takes that of {origin.name}"
        yield Problem(
            f"{key}={_written(mine)} does not fit the model that {stage} starts from",
            f"it comes from {names[0]}, and {origin.name} was made with {field.name}={word}",
            remedy,
        )


def too_long(recipe: Recipe, stage: str) -> Iterator[Problem]:
    """Sequences longer than the architecture is made for."""
    spec, length = _own_or_models(recipe, stage), getattr(recipe.stage(stage).config, "seq_len", 0)
    if spec is not None and length > spec.context:
        cause = f"the architecture is made for sequences of {spec.context} tokens at most"
        remedy = f"set {stage}.seq_len={spec.context}, or give the architecture a longer context"
        yield Problem(f"stage {stage}: seq_len={length}", cause, remedy)


def _origin(recipe: Recipe, name: str) -> tuple[StageNode | None, bool]:
    """The train stage that made the tensors' shapes, and whether a merge stands in between."""
    node, merged = recipe.stage(name), False
    while not _tells(node):
        # A merge, or a stage whose architecture is that of the model it trains on.
        models = node.inputs.get("models", ()) or node.inputs.get("model", ())
        if not models:
            return None, merged
        node, merged = recipe.stage(models[0]), merged or node.kind == "merge"
    return node, merged


def _own_or_models(recipe: Recipe, stage: str) -> DecoderSpec | None:
    """The architecture of a stage; without one that of the model it starts from, the depth of merges left aside."""
    node = recipe.stage(stage)
    if _tells(node):
        return spec_of(node)
    names = node.inputs.get("model", ())
    origin = _origin(recipe, names[0])[0] if names else None
    return None if origin is None else spec_of(origin)


def spec_of(node: StageNode) -> DecoderSpec | None:
    """What the stage's architecture tells of itself, before it is built, or what the stage itself tells of the model
    that it makes; None where nothing is told."""
    for part in node.parts:
        if part.seam == "architecture":
            tell = getattr(part.config, "spec", None)
            return tell() if callable(tell) and not list(part.config.check()) else None
    tell = getattr(node.config, "spec", None)
    return tell() if callable(tell) and not list(node.config.check()) else None


def _tells(node: StageNode) -> bool:
    return any(part.seam == "architecture" for part in node.parts) or hasattr(node.config, "spec")


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
