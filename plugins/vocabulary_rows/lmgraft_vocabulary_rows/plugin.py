"""The merge ``vocabulary_rows``: its name, its settings, and what a recipe must give it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from lmgraft.component import Component, ComponentConfig
from lmgraft.errors import Problem
from lmgraft.hookspecs import hookimpl

if TYPE_CHECKING:
    from lmgraft.recipe import Recipe

__all__ = ["Rows", "VocabularyRowsConfig", "needs_tokenizer"]


class Rows(Enum):
    """What the row of a token starts from that the model has not had."""

    mean_covariance = "mean_covariance"
    """A draw from the normal distribution with the mean and ``scale`` times the covariance of the old rows."""
    subpieces = "subpieces"
    """The mean of the rows of those pieces that the old tokenizer makes of the token."""
    mean = "mean"
    """The mean of the old rows."""
    normal = "normal"
    """A draw from the normal distribution around 0, of the standard deviation ``std``."""


@dataclass
class VocabularyRowsConfig(ComponentConfig):
    takes_tokenizer: ClassVar[bool] = True
    """It implements :class:`lmgraft.seams.merge.VocabularyMerge`."""

    rows: Rows = Rows.mean_covariance
    """What a new row of embedding and head starts from."""
    scale: float = 1e-9
    """For mean_covariance: the covariance is multiplied by it. The 1e-9 of transformers puts new rows next to the mean;
    1 draws rows that are spread like the old ones."""
    std: float | None = None
    """For normal: the standard deviation; null takes ``initializer_range`` of the model's config.json, or 0.02."""
    seed: int = 0
    """Of what is drawn."""
    drop_old: bool = False
    """Leave out rows of tokens that the new vocabulary lacks. Otherwise such a vocabulary is refused: it is seldom
    meant for the model."""

    def check(self) -> Iterator[str]:
        if not 0 <= self.scale < float("inf"):
            yield f"scale is {self.scale}; it must be at least 0, and finite"
        if self.std is not None and not 0 <= self.std < float("inf"):
            yield f"std is {self.std}; it must be at least 0, or null for the model's own"

    def check_recipe(self, recipe: Recipe, stage: str) -> Iterator[Problem | str]:
        node = recipe.stage(stage)
        models = node.inputs.get("models", ())
        if len(models) != 1:
            fact = f"{stage}.models={list(models)}: vocabulary_rows takes one model"
            yield Problem(fact, f"it is given {len(models)}", f"{stage}.models=[STAGE]")
        if not node.inputs.get("tokenizer"):
            made = [other.name for other in recipe.stages if other.config.artifact == "tokenizer"]
            yield needs_tokenizer(f"{stage}.tokenizer={made[-1] if made else 'STAGE'}")


def needs_tokenizer(remedy: str) -> Problem:
    """What is said where no vocabulary is named."""
    cause = "it gives a model the rows of another vocabulary, and nothing says of which"
    return Problem("vocabulary_rows is given no tokenizer", cause, remedy)


@hookimpl
def lmgraft_merge() -> list[Component[Any]]:
    return [
        Component(
            name="vocabulary_rows",
            target="lmgraft_vocabulary_rows.merge:VocabularyRows",
            config=VocabularyRowsConfig,
            summary="Another vocabulary: old tokens keep their rows, new ones get theirs",
        )
    ]
