"""The merges ``linear``, ``slerp``, ``ties`` and ``passthrough``: their names and settings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from lmgraft.component import MISSING, Component, ComponentConfig
from lmgraft.errors import Problem
from lmgraft.hookspecs import hookimpl

if TYPE_CHECKING:
    from lmgraft.recipe import Recipe

__all__ = ["Dtype", "LinearConfig", "PassthroughConfig", "Sign", "SlerpConfig", "TiesConfig", "slices"]

#: ``12:24`` of the first model, ``1@12:24`` of the second.
_SLICE = re.compile(r"(?:(\d+)@)?(\d+):(\d+)")
#: The largest factor: numbers are computed in float32.
_LARGEST = (2 - 2**-23) * 2.0**127


class Dtype(Enum):
    """What numbers are written as."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Sign(Enum):
    """How models agree on the sign of a weight."""

    sum = "sum"
    """That of the sum of what they changed: as in the paper."""
    count = "count"
    """That of most of them."""


@dataclass
class LinearConfig(ComponentConfig):
    takes_models: ClassVar[tuple[int, int | None]] = (2, None)
    examples: ClassVar[tuple[str, ...]] = ("A B OUT", "A B C OUT --weights 0.5,0.3,0.2")

    weights: list[float] | None = None
    """One for each model, in their order. Null: all alike."""
    normalize: bool = True
    """Divide by the sum of the weights."""
    dtype: Dtype | None = None
    """What the result is written as, and may differ among the models then. Null: their own, which must be one."""

    def check(self) -> Iterator[str]:
        yield from _finite("weights", self.weights)
        if self.normalize and self.weights and abs(sum(self.weights)) < 1e-8:
            yield f"weights {_shown(self.weights)} add up to 0, and normalize divides by their sum"
        elif self.weights and not any(self.weights):
            yield f"weights {_shown(self.weights)}: nothing is left of the models where all are 0"

    def check_recipe(self, recipe: Recipe, stage: str) -> Iterator[Problem]:
        """As many weights as models."""
        names = recipe.stage(stage).inputs.get("models", ())
        yield from counted(f"{stage}.merge.weights", self.weights, len(names), "model", f"{stage}.merge.weights=")


@dataclass
class SlerpConfig(ComponentConfig):
    takes_models: ClassVar[tuple[int, int | None]] = (2, 2)
    examples: ClassVar[tuple[str, ...]] = ("A B OUT --t 0.3", "A B OUT --gradients self_attn=[0,0.5,1],mlp=[1,0.5,0]")

    t: float = 0.5
    """Where between the models: 0 is the first, 1 the second."""
    gradients: dict[str, list[float]] = field(default_factory=dict)
    """Another ``t`` for the tensors in whose names a regular expression is found, the first that is: one number, or
    several, which stand at even distances from the first layer to the last. A tensor outside the layers takes the first
    number."""
    eps: float = 1e-8
    """A tensor that is no longer than this is left undivided by its length."""
    threshold: float = 0.9995
    """Tensors whose cosine is beyond it, either way, are mixed in a straight line: the arc's formula divides by the
    sine."""
    dtype: Dtype | None = None
    """What the result is written as, and may differ among the models then. Null: their own, which must be one."""

    def check(self) -> Iterator[str]:
        yield from _between("t", [self.t])
        if not 0 < self.eps < 1:
            yield f"eps is {self.eps}; it must lie between 0 and 1, such as 1e-8"
        if not 0 < self.threshold < 1:
            yield f"threshold is {self.threshold}; it must lie between 0 and 1, such as 0.9995"
        for pattern, values in self.gradients.items():
            yield from _between(f"gradients: {pattern}", values)
            if not values:
                yield f"gradients: {pattern} has no number; give one, or one for the first layer and one for the last"
            try:
                re.compile(pattern)
            except re.error as error:
                yield f"gradients: {pattern} is no regular expression: {error}"


@dataclass
class TiesConfig(ComponentConfig):
    takes_models: ClassVar[tuple[int, int | None]] = (2, None)
    examples: ClassVar[tuple[str, ...]] = (
        "BASE A B OUT --density 0.2",
        "BASE A B OUT --weights 0.6,0.4 --densities 0.5,0.3",
    )

    density: float = 0.2
    """The share of each tensor's changes that is kept, those of the largest magnitude. 1 keeps all."""
    densities: list[float] | None = None
    """One for each model but the base, in their order, in place of ``density``."""
    weights: list[float] | None = None
    """One for each model but the base, in their order. Null: 1 each."""
    normalize: bool = True
    """Divide by the weights of the models that agree on a sign: a mean (the paper's), otherwise a sum."""
    scale: float = 1.0
    """The paper's lambda: how much of the merged change is added to the base."""
    sign: Sign = Sign.sum
    """How models agree on the sign of a weight: ``sum`` of their changes, or ``count`` of models."""
    rescale: bool = False
    """Give what is kept of a tensor's changes the sum of magnitudes that all of them had."""
    base: int = 0
    """Which of the models the others were trained from, counted from 0."""
    dtype: Dtype | None = None
    """What the result is written as, and may differ among the models then. Null: their own, which must be one."""

    def check(self) -> Iterator[str]:
        for name, values in (("density", [self.density]), ("densities", self.densities or ())):
            if not all(0 <= value <= 1 for value in values):
                yield f"{name} {_shown(values)}: a share lies between 0 and 1"
        yield from _finite("weights", self.weights)
        yield from _finite("scale", [self.scale])
        if self.base < 0:
            yield f"base is {self.base}; models are counted from 0"

    def check_recipe(self, recipe: Recipe, stage: str) -> Iterator[Problem]:
        """As many weights and densities as models beside the base, which is among them."""
        names = recipe.stage(stage).inputs.get("models", ())
        if self.base >= len(names) > 1:
            cause = f"{stage}.models names {len(names)}, counted from 0"
            yield Problem(f"{stage}.merge.base={self.base} is no model", cause, f"{stage}.merge.base=0")
        for key in ("weights", "densities"):
            what = f"{stage}.merge.{key}"
            yield from counted(what, getattr(self, key), len(names) - 1, "model beside the base", f"{what}=")


@dataclass
class PassthroughConfig(ComponentConfig):
    takes_models: ClassVar[tuple[int, int | None]] = (1, None)
    examples: ClassVar[tuple[str, ...]] = ("A OUT --slices 0:24,8:32", "A B OUT --slices 0@0:20,1@12:32")

    slices: list[str] = MISSING
    """Which layers stand on one another: ``0:24`` are layers 0 to 23 of the first model, ``1@8:32`` are layers 8 to 31
    of the second. Models and layers are counted from 0, and layers may come twice."""

    def check(self) -> Iterator[str]:
        if not self.slices:
            yield "slices is empty; name at least one, such as 0:24"
        for text in self.slices:
            match = _SLICE.fullmatch(str(text).strip())
            if match is None:
                yield f"slices: {text!r} is no slice; write 0:24, or 1@0:24 of the second model"
            elif int(match[2]) >= int(match[3]):
                yield f"slices: {text} holds no layer; its end, which is not in it, must be above its start"

    def check_recipe(self, recipe: Recipe, stage: str) -> Iterator[Problem]:
        """Slices are of models that are there, and each model has one."""
        if list(self.check()):
            return
        count = len(recipe.stage(stage).inputs.get("models", ()))
        for problem in unmatched(slices(self.slices), count):
            yield Problem(f"{stage}.merge.slices: {problem.fact}", problem.cause, problem.remedy)


def slices(texts: Sequence[str]) -> list[tuple[int, int, int]]:
    """(model, first layer, the one after the last) of each slice."""
    found = []
    for text in texts:
        match = _SLICE.fullmatch(str(text).strip())
        assert match is not None, "check() was asked first"
        found.append((int(match[1] or 0), int(match[2]), int(match[3])))
    return found


def unmatched(taken: Sequence[tuple[int, int, int]], count: int) -> Iterator[Problem]:
    """What is wrong with slices beside so many models."""
    numbers = {model for model, _, _ in taken}
    beyond = sorted(number for number in numbers if number >= count)
    for number in beyond:
        cause = f"there {'is 1 model' if count == 1 else f'are {count} models'}, counted from 0"
        yield Problem(f"a slice of model {number}", cause, "name it too, or write slices of the others")
    for number in range(count) if not beyond else ():
        if number not in numbers:
            cause = f"no slice begins with {number}@" + (" and none is without a model" if number == 0 else "")
            yield Problem(f"nothing is taken of model {number}", cause, "leave it out, or write a slice of it")


def counted(what: str, values: Sequence[float] | None, count: int, of: str, remedy: str) -> Iterator[Problem]:
    """A problem where there is not one value for each of so many."""
    if values is not None and len(values) != count:
        plural = of if count == 1 else of.replace("model", "models", 1)
        cause = f"{'one is' if len(values) == 1 else f'{len(values)} are'} given for {count} {plural}"
        even = ",".join(f"{1 / max(count, 1):.3g}" for _ in range(count))
        yield Problem(f"{what} {_shown(values)} does not match the models", cause, f"{remedy}[{even}]")


def _between(name: str, values: Sequence[float]) -> Iterator[str]:
    """Beyond both models the arc turns back, so that t=2 of tensors at right angles is the first one negated."""
    if not all(0 <= value <= 1 for value in values):
        yield f"{name} {_shown(values)}: t lies between 0, the first model, and 1, the second"


def _finite(name: str, values: Sequence[float] | None) -> Iterator[str]:
    if not all(abs(value) <= _LARGEST for value in values or ()):
        yield f"{name} {_shown(values or ())}: every number must be finite and within float32"
    if values is not None and not values and name == "weights":
        yield "weights is empty; give one for each model, or null"


def _shown(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


@hookimpl
def lmgraft_merge() -> list[Component]:
    return [
        Component(
            name="linear",
            target="lmgraft_merges.linear:Linear",
            config=LinearConfig,
            summary="Weighted average of models (model soups)",
        ),
        Component(
            name="slerp",
            target="lmgraft_merges.slerp:Slerp",
            config=SlerpConfig,
            summary="Between two models along the arc, tensor by tensor",
        ),
        Component(
            name="ties",
            target="lmgraft_merges.ties:Ties",
            config=TiesConfig,
            summary="Several fine-tunes of one base: trim, elect signs, merge (TIES)",
        ),
        Component(
            name="passthrough",
            target="lmgraft_merges.passthrough:Passthrough",
            config=PassthroughConfig,
            summary="Any layers of one or several models, stacked as they are",
        ),
    ]
