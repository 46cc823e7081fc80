"""Whether a stage can read the rows that it names: told from settings alone, before anything runs.

Rows may be encoded once, by a tokens stage with an objective, and read by many stages. The objective of each of those
must make the same rows of a document: the same part with the same settings, those apart that its config leaves out of
``encoding()`` (:class:`lmgraft.seams.objective.ObjectiveSettings`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lmgraft.component import ComponentConfig, result_fields
from lmgraft.errors import Problem

if TYPE_CHECKING:
    from lmgraft.recipe import PartUse, Recipe, StageNode

__all__ = ["PACKABLE", "encoding_of", "needs_reference", "problems", "unpackable"]

#: The word in ``provides()`` of an objective whose rows may share a sequence.
PACKABLE = "packable"


def encoding_of(config: ComponentConfig) -> Mapping[str, Any]:
    """The settings of an objective that decide what it makes of a document, as plain data."""
    from lmgraft.keys import canonical

    own = getattr(config, "encoding", None)
    found: Mapping[str, Any] = canonical(dict(own()) if own is not None else result_fields(config))
    return found


def problems(recipe: Recipe, stage: str) -> Iterator[Problem]:
    """What is wrong between ``stage``, which has an objective, and the stage that its ``data`` names."""
    node = recipe.stage(stage)
    own, origin = _objective(node), _origin(recipe, node)
    if own is None or origin is None or origin.kind != "tokens":
        return
    made = _objective(origin)
    if made is not None:
        yield from _unlike(node, own, origin, made)
        for name in node.inputs.get("tokenizer", ()):
            cause = f"{origin.name} has encoded its rows already"
            yield Problem(f"{stage}.tokenizer={name} would not be used", cause, f"{stage}.tokenizer=null")
        return
    if node.config.artifact == "reference":
        cause = f"stage {origin.name} packs plain text, and rows are what is scored"
        remedy = f"{stage}.data=STAGE with a corpus stage, or objective@{origin.name}.objective={own.config.part}"
        yield Problem(f"{stage}.data={origin.name} holds no rows", cause, remedy)
    if _best_fit(node):
        cause = f"stage {origin.name} packs plain text, whose sequences are full already"
        yield Problem(f"{stage}.packing=best_fit has nothing to pack", cause, f"{stage}.packing=none")


def unpackable(recipe: Recipe, stage: str) -> Iterator[Problem]:
    """Best-fit packing with an objective that must see its rows one by one."""
    node = recipe.stage(stage)
    own = _objective(node)
    if own is not None and _best_fit(node) and PACKABLE not in own.config.provides():
        cause = f"the objective {own.config.part} must know which row a token is of, and packed rows share a sequence"
        yield Problem(f"{stage}.packing=best_fit does not go with {own.path}", cause, f"{stage}.packing=none")


def needs_reference(recipe: Recipe, stage: str) -> Iterator[Problem]:
    """An objective that compares with a reference where the rows were encoded by a stage that has none.

    Encoding needs no reference, so the tokens stage offers that word itself; who trains on its rows needs a real one.
    """
    node = recipe.stage(stage)
    own, origin = _objective(node), _origin(recipe, node)
    if own is None or origin is None or _objective(origin) is None or origin.kind != "tokens":
        return
    if "reference" in own.config.needs() and not node.inputs.get("reference"):
        cause = f"the objective {own.config.part} compares with a reference's log-probabilities"
        remedy = f"add a stage of kind score with data: {origin.name}, and {stage}.reference=STAGE"
        yield Problem(f"stage {stage} has no reference", cause, remedy)


def _unlike(node: StageNode, own: PartUse, origin: StageNode, made: PartUse) -> Iterator[Problem]:
    if own.config.part != made.config.part:
        cause = f"its rows were encoded by {made.config.part}, and {node.name} trains {own.config.part} on them"
        remedy = f"objective@{made.path}={own.config.part}, or another {node.name}.data"
        yield Problem(f"{node.name}.data={origin.name} does not fit {own.path}", cause, remedy)
        return
    ours, theirs = encoding_of(own.config), encoding_of(made.config)
    for name in sorted({*ours, *theirs}):
        if ours.get(name) != theirs.get(name):
            cause = f"{origin.name} encodes the rows with {name}={_short(theirs.get(name))}"
            remedy = f"set {made.path}.{name} and {own.path}.{name} to the same"
            yield Problem(f"{own.path}.{name}={_short(ours.get(name))} is not how the rows are encoded", cause, remedy)


def _objective(node: StageNode) -> PartUse | None:
    return next((part for part in node.parts if part.slot == "objective"), None)


def _origin(recipe: Recipe, node: StageNode) -> StageNode | None:
    names = node.inputs.get("data", ())
    return recipe.stage(names[0]) if names else None


def _best_fit(node: StageNode) -> bool:
    return getattr(getattr(node.config, "packing", None), "value", "none") == "best_fit"


def _short(value: object) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
