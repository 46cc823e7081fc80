"""Whether a train stage's mixture makes sense: told from settings alone, before anything runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lmgraft.errors import Problem

if TYPE_CHECKING:
    from lmgraft.recipe import Recipe, StageNode
    from lmgraft.stages.train_settings import TrainStage

__all__ = ["problems", "unmixable"]


def problems(settings: TrainStage) -> Iterator[str]:
    """What is wrong with ``more_data`` and ``data_weights``, each beginning with the key."""
    weights, sources = settings.data_weights, [settings.data, *settings.more_data]
    for name in sorted({name for name in sources if sources.count(name) > 1}):
        yield f"more_data names {name}, which is read already; a stage is one source"
    if not weights:
        return
    if not settings.more_data:
        yield f"data_weights is set, and more_data names nothing to mix with {settings.data}"
        return
    for name in weights:
        if name not in sources:
            yield f"data_weights names {name!r}, which is not among the sources ({', '.join(sources)})"
    for name in dict.fromkeys(sources):
        if name not in weights:
            yield f"data_weights has no weight for the source {name}; 0 leaves it out"
    wrong = [name for name, weight in weights.items() if not (math.isfinite(weight) and weight >= 0)]
    for name in wrong:
        yield f"data_weights: {name} is {weights[name]:g}; a weight is a number, 0 or more"
    if not wrong and not any(weights.values()):
        yield "data_weights are all 0; one source at least gives something"


def unmixable(recipe: Recipe, stage: str) -> Iterator[Problem]:
    """Rows are not mixed while training: a unit of them is a document, a sample of packed tokens a stretch of text."""
    inputs = recipe.stage(stage).inputs
    more = inputs.get("more_data", ())
    if not more:
        return
    for role, names in (("data", inputs.get("data", ())), ("more_data", more)):
        for node in map(recipe.stage, names):
            if _rows(node):
                cause = f"stage {node.name} makes rows, and only packed text is mixed while training"
                remedy = f"{stage}.more_data=[], and mix the rows in one corpus stage by mixture.weights"
                yield Problem(f"{stage}.{role} names {node.name}, which cannot be mixed", cause, remedy)


def _rows(node: StageNode) -> bool:
    """A corpus, or a tokens stage that encodes rows."""
    return node.config.artifact == "corpus" or any(part.slot == "objective" for part in node.parts)
