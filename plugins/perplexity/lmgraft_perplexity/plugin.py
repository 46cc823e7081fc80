"""The evaluator ``perplexity``: how well a model predicts held-out text. Light: nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from lmgraft.component import Component, ComponentConfig, execution
from lmgraft.errors import Problem
from lmgraft.hookspecs import hookimpl
from lmgraft.seams.evaluator import Evaluator

if TYPE_CHECKING:
    from lmgraft.recipe import Recipe

__all__ = ["PerplexityConfig", "Split", "lmgraft_evaluator"]


class Split(Enum):
    train = "train"
    validation = "validation"


@dataclass
class PerplexityConfig(ComponentConfig):
    """Settings of the evaluator ``perplexity``."""

    split: Split = Split.validation
    """Whose documents are scored."""
    sources: list[str] = field(default_factory=list)
    """Only documents that came from these sources of the corpus stages (``files``, or a key of yours); empty takes all.
    Two evaluators of this name, each with its sources, score two languages apart."""
    window: int | None = None
    """Tokens that the model reads at once; null takes the model's context."""
    stride: int | None = None
    """New tokens that each further window of a long document scores; null takes half of the window. Smaller gives each
    token more context to its left and costs more passes."""
    batch: int = execution(64)
    """Windows handed to the model in one call."""

    def needs(self) -> frozenset[str]:
        return frozenset({"columns:text"} | ({"split:validation"} if self.split is Split.validation else set()))

    def check(self) -> Iterator[str]:
        if self.window is not None and self.window < 1:
            yield f"window is {self.window}; it must be at least 1, or null for the model's context"
        if self.stride is not None and self.stride < 1:
            yield f"stride is {self.stride}; it must be at least 1, or null for half of the window"
        if self.window is not None and self.stride is not None and self.stride > self.window:
            yield f"stride ({self.stride}) is larger than window ({self.window}); a window cannot score what it skips"
        if self.batch < 1:
            yield f"batch is {self.batch}; it must be at least 1"
        twice = sorted({name for name in self.sources if self.sources.count(name) > 1})
        if twice:
            yield f"sources names {', '.join(twice)} twice"

    def check_recipe(self, recipe: Recipe, stage: str) -> Iterator[Problem | str]:
        """A source that no corpus has, where all of them are made here."""
        corpora = [recipe.stage(name) for name in recipe.stage(stage).inputs.get("corpus", ())]
        if not self.sources or not corpora:
            return
        parts = [[part for part in node.parts if part.slot.startswith("sources.")] for node in corpora]
        if not all(parts):  # a corpus of another kind of stage, which alone knows its sources
            return
        known = list(dict.fromkeys(part.slot.partition(".")[2] for found in parts for part in found))
        key = next((part.path for part in recipe.stage(stage).parts if part.config is self), stage)
        for name in self.sources:
            if name not in known:
                cause = f"the sources of {', '.join(node.name for node in corpora)} are {', '.join(known)}"
                yield Problem(f"{key}.sources: there is no source {name!r}", cause, f"{key}.sources=[{known[0]}]")


@hookimpl
def lmgraft_evaluator() -> list[Component[Evaluator]]:
    return [
        Component(
            name="perplexity",
            target="lmgraft_perplexity.perplexity:Perplexity",
            config=PerplexityConfig,
            summary="Perplexity and bits per byte on held-out text, beside gzip and xz",
        )
    ]
