"""The evaluator ``perplexity``: how well a model predicts held-out text. Light: nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from lmgraft.component import Component, ComponentConfig, execution
from lmgraft.hookspecs import hookimpl
from lmgraft.seams.evaluator import Evaluator

__all__ = ["PerplexityConfig", "Split", "lmgraft_evaluator"]


class Split(Enum):
    train = "train"
    validation = "validation"


@dataclass
class PerplexityConfig(ComponentConfig):
    """Settings of the evaluator ``perplexity``."""

    split: Split = Split.validation
    """Whose documents are scored."""
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
