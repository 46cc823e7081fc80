"""The merge ``dus``: its name, its settings, and which m fits n layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.errors import Problem
from lmgraft.hookspecs import hookimpl

if TYPE_CHECKING:
    from lmgraft.recipe import Recipe, StageNode

__all__ = ["DUSConfig", "quarter", "wrong"]


@dataclass
class DUSConfig(ComponentConfig):
    drop: int | None = None
    """m: layers that the first copy loses at its end and the second at its start. The result has 2 (n - m) layers. Null
    takes a quarter of the n, as SOLAR did (8 of 32), rounded down to an even number, 2 at least."""
    allow_odd: bool = False
    """Take an odd m too: the second copy then begins within a pair of layers."""

    def check(self) -> Iterator[str]:
        if self.drop is not None and self.drop < 1:
            yield f"drop is {self.drop}; it must be at least 1, or null for a quarter of the layers"
        elif self.drop is not None and self.drop % 2 and not self.allow_odd:
            yield f"drop is {self.drop}: {_ODD}; take {_even(self.drop)}, or set allow_odd=true"

    def check_recipe(self, recipe: Recipe, stage: str) -> Iterator[Problem | str]:
        """The models before and after, where their settings say how deep they are."""
        names = recipe.stage(stage).inputs.get("models", ())
        if len(names) != 1:
            fact = f"{stage}.models={list(names)}: dus merges one model with itself"
            yield Problem(fact, f"it is given {len(names)}", f"{stage}.models=[STAGE]")
            return
        layers = _layers(recipe, recipe.stage(names[0]))
        if layers is None or list(self.check()):
            return
        drop = quarter(layers) if self.drop is None else self.drop
        problem = wrong(drop, layers, allow_odd=self.allow_odd)
        if problem is not None:
            cause, remedy = problem
            fact = f"{stage}.merge: dus with drop={drop} on the {layers} layers of {names[0]}"
            typed = remedy.replace(", with allow_odd", f" {stage}.merge.allow_odd")
            yield Problem(fact, cause, f"{stage}.merge.{typed}" if remedy.startswith("drop=") else remedy)
            return
        grown = 2 * (layers - drop)
        for other in recipe.stages:
            deep = _architecture_layers(other)
            if stage in other.inputs.get("model", ()) and deep is not None and deep != grown:
                yield Problem(
                    f"{other.name}.architecture.layers={deep}",
                    f"its model comes from {stage}, where dus makes 2 * ({layers} - {drop}) = {grown} layers",
                    f"{other.name}.architecture.layers={grown}",
                )


#: SOLAR's m is even. Of an even n an even m leaves a multiple of four where n is one, an odd m never does.
_ODD = (
    "an odd m begins the second copy within a pair of layers, and of an even n leaves 2 (n - m) that do not divide over"
    " 4 pipeline stages"
)


def quarter(layers: int) -> int:
    """The m that null stands for."""
    return max(layers // 8 * 2, 2)


def wrong(drop: int, layers: int, *, allow_odd: bool = False) -> tuple[str, str] | None:
    """(cause, remedy) where m does not fit n layers; the remedy begins with ``drop=`` where another m does."""
    largest = (layers - 1) // 2 // 2 * 2
    fits = min(max(drop // 2 * 2, 2), largest)
    remedy = f"drop={fits}" if largest else "a model of at least 5 layers"
    if largest == 0 and layers > 2:
        remedy = f"drop={(layers - 1) // 2}, with allow_odd=true"
    if drop < 1:
        return "nothing is dropped, and the copies would only be stacked", remedy
    if drop >= layers:
        return f"each copy would lose all of its {layers} layers", remedy
    if 2 * drop >= layers:
        return f"2 * ({layers} - {drop}) = {2 * (layers - drop)} layers are no more than it has", remedy
    if drop % 2 and not allow_odd:
        return _ODD, f"{remedy}, or allow_odd=true" if largest else remedy
    return None


def _even(drop: int) -> str:
    return f"{drop - 1} or {drop + 1}" if drop > 1 else "2"


def _layers(recipe: Recipe, stage: StageNode) -> int | None:
    """The depth of the model that a stage makes, if settings tell it: a train stage's, or that of another dus."""
    for part in stage.parts:
        if part.seam == "merge" and isinstance(part.config, DUSConfig):
            below = [_layers(recipe, recipe.stage(name)) for name in stage.inputs.get("models", ())]
            if len(below) != 1 or below[0] is None:
                return None
            drop = quarter(below[0]) if part.config.drop is None else part.config.drop
            return 2 * (below[0] - drop)
    return _architecture_layers(stage)


def _architecture_layers(stage: StageNode) -> int | None:
    """The depth that an architecture of the stage is set to, or that of a model which it brings, if told."""
    for settings in (*(part.config for part in stage.parts if part.seam == "architecture"), stage.config):
        layers, tell = getattr(settings, "layers", None), getattr(settings, "spec", None)
        if layers is None and callable(tell) and not list(settings.check()):
            layers = getattr(tell(), "layers", None)
        if isinstance(layers, int):
            return layers
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
