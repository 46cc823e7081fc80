"""The initializer ``mup``: its name and its settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.errors import Problem
from lmgraft.hookspecs import hookimpl

if TYPE_CHECKING:
    from lmgraft.recipe import Recipe

__all__ = ["MupConfig", "tied"]


@dataclass
class MupConfig(ComponentConfig):
    """At the base's width it is ``normal``, learning rates too; at any other what was tuned there still holds."""

    base_hidden: int = 256
    """The width (hidden) of the model that learning rate and deviation are meant for. The MLP and the attention's width
    are taken to grow in proportion to hidden."""
    base_head_dim: int | None = None
    """The width of a head of that model; null: heads are as wide at every width, and there are more of them."""
    std: float = 0.02
    """Standard deviation of every matrix at the base's width; of embeddings at every width."""
    scale_residual: bool = True
    """Divide the deviation of the projections that write to the residual stream by sqrt(2 layers)."""
    zero_head: bool = False
    """Start the head at 0: the first predictions are then uniform at every width (section D.2 of the paper)."""
    zero_query: bool = False
    """Start the queries at 0: attention then begins by taking the mean at every width (the same section)."""

    def check(self) -> Iterator[str]:
        if self.base_hidden < 1:
            yield f"base_hidden is {self.base_hidden}; it must be at least 1"
        if self.base_head_dim is not None and self.base_head_dim < 1:
            yield f"base_head_dim is {self.base_head_dim}; it must be at least 1, or null"
        if self.std <= 0:
            yield f"std is {self.std}; it must be above 0, or all weights start equal"

    def check_recipe(self, recipe: Recipe, stage: str) -> Iterator[Problem]:
        for part in recipe.stage(stage).parts:
            tell: Any = getattr(part.config, "spec", None)
            if part.seam != "architecture" or tell is None or list(part.config.check()):
                continue
            spec = tell()
            if spec is not None and spec.tied:
                settings = {field.name for field in dataclasses.fields(part.config)}
                key = f"{stage}.architecture.tied=false, or " if "tied" in settings else ""
                yield tied(f"{stage}.initializer=mup does not fit {stage}.architecture={part.config.part}", key)


def tied(fact: str, remedy: str = "") -> Problem:
    """Why a model whose head is its embedding is refused."""
    cause = "its head is its embedding, which starts and learns at another scale; weights alone cannot give it both"
    return Problem(fact, cause, f"{remedy}another initializer, such as normal")


@hookimpl
def lmgraft_initializer() -> list[Component[Any]]:
    return [
        Component(
            name="mup",
            target="lmgraft_mup.mup:Mup",
            config=MupConfig,
            summary="muP: the best learning rate is the same at every width (Adam)",
            variants=("base64",),
        )
    ]
