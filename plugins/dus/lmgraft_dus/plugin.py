"""The merge ``dus``: its name and its settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.errors import Problem
from lmgraft.hookspecs import hookimpl

if TYPE_CHECKING:
    from lmgraft.recipe import Recipe, StageNode

__all__ = ["DUSConfig", "wrong"]


@dataclass
class DUSConfig(ComponentConfig):
    drop: int | None = None
    """m: layers that the first copy loses at its end and the second at its start; null takes a quarter of them all, as
    SOLAR did (8 of 32). The result has 2 (n - m) layers."""
    allow_odd: bool = False
    """Take an odd m too: both copies are then cut within a pair of layers."""

    def check(self) -> Iterator[str]:
        if self.drop is not None and self.drop < 1:
            yield f"drop is {self.drop}; it must be at least 1"
        elif self.drop is not None and self.drop % 2 and not self.allow_odd:
            yield f"drop is {self.drop}; {_ODD}"

    def check_recipe(self, recipe: Recipe, stage: str) -> Iterator[Problem | str]:
        """The models before and after, where their settings say how deep they are."""
        node = recipe.stage(stage)
        names = node.inputs.get("models", ())
        if len(names) != 1:
            cause = f"it is given {len(names)}"
            yield Problem(
                f"{stage}.models={list(names)}: dus merges one model with itself", cause, f"{stage}.models=[STAGE]"
            )
            return
        layers = _layers(recipe.stage(names[0]))
        if layers is None:
            return
        drop = self.drop if self.drop is not None else layers // 4
        problem = wrong(drop, layers, allow_odd=self.allow_odd)
        if problem is not None:
            yield Problem(f"{stage}.merge: dus with drop={drop} on the {layers} layers of {names[0]}", *problem)
            return
        grown = 2 * (layers - drop)
        for other in recipe.stages:
            deep = _layers(other)
            if stage in other.inputs.get("model", ()) and deep is not None and deep != grown:
                yield Problem(
                    f"{other.name}.architecture.layers={deep}",
                    f"its model comes from {stage}, where dus makes 2 * ({layers} - {drop}) = {grown} layers",
                    f"{other.name}.architecture.layers={grown}",
                )


_ODD = (
    "an odd m cuts both copies within a pair of layers, which breaks architectures that alternate two kinds; take an"
    " even one, or set allow_odd=true"
)


def wrong(drop: int, layers: int, *, allow_odd: bool = False) -> tuple[str, str] | None:
    """(cause, remedy) where m does not fit n layers."""
    fits = list(range(2, layers, 2))
    near = max([m for m in fits if m <= layers // 4] or fits[:1], default=None)
    remedy = f"merge.drop={near}" if near is not None else "a model of at least 3 layers"
    if drop >= layers:
        return f"each copy would lose all of its {layers} layers", remedy
    if drop < 1:
        return "nothing is dropped, and the copies would only be stacked", remedy
    if drop % 2 and not allow_odd:
        return _ODD, remedy
    return None


def _layers(stage: StageNode) -> int | None:
    """The depth that a train stage's architecture is set to, if it says so."""
    for part in stage.parts:
        if part.seam == "architecture":
            layers = getattr(part.config, "layers", None)
            return layers if isinstance(layers, int) else None
    return None


@hookimpl
def lmgraft_merge() -> list[Component[Any]]:
    return [
        Component(
            name="dus",
            target="lmgraft_dus.dus:DUS",
            config=DUSConfig,
            summary="Depth up-scaling: two copies, overlapping in the middle (SOLAR)",
        )
    ]
