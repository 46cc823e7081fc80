"""The light half of ``classifiers``: the settings of ``toxicity`` and ``quality_classifier``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from importlib.util import find_spec
from typing import Any

from lmgraft.component import Component, ComponentConfig, execution
from lmgraft.errors import Problem
from lmgraft.hookspecs import hookimpl

__all__ = ["Algorithm", "Features", "Method", "QualityConfig", "ToxicityConfig", "lmgraft_filter"]

LEARNS = "pip install 'lmgraft[text]'"


class Method(Enum):
    words = "words"
    classifier = "classifier"
    detoxify = "detoxify"


class Features(Enum):
    hashed = "hashed"
    statistics = "statistics"
    embedding = "embedding"


class Algorithm(Enum):
    logistic = "logistic"
    forest = "forest"


@dataclass
class ToxicityConfig(ComponentConfig):
    """Drops toxic documents: by words, by a classifier that it fits to labelled rows, or by a model at hand."""

    method: Method = Method.words
    """``words``: a list of words, no download; ``classifier``: fitted to ``labelled``; ``detoxify``: ``checkpoint``."""
    words: str | None = execution(None)
    """For ``words``: the list instead of the built-in one, a text file (a word or phrase a line) or a CSV file."""
    column: str = "text"
    """The CSV file's column of words."""
    severity: str = "severity_rating"
    """Its column of numbers that say how bad a word is, if it has one."""
    min_severity: float = 0.0
    """Words below that are left out."""
    disguised: bool = True
    """Find words that are disguised, too: ``sh1t``, ``f u c k``, ``fuuuck``, ``f**k``."""
    min_hits: int = 1
    """A document with fewer words of the list is kept,"""
    min_share: float = 0.01
    """and so is one in which they are a smaller share of all words; 0 looks at their number only."""
    labelled: str | None = execution(None)
    """For ``classifier``: rows with a text and a label; JSON Lines, CSV, TSV or Parquet, compressed or not."""
    text: str = "text"
    """The rows' key of texts."""
    label: str = "label"
    """The rows' key of labels."""
    positive: list[str] = field(default_factory=lambda: ["1", "true", "toxic"])
    """Labels, written as text, that mean toxic; all others mean that it is not."""
    threshold: float = 0.5
    """For ``classifier`` and ``detoxify``: documents with this probability or more are dropped."""
    precision: float | None = None
    """For ``classifier``: take the lowest threshold at which so large a share of what it drops is toxic, among a tenth
    of the rows that it was not fitted to; ``threshold`` is not used then."""
    strength: float = 10.0
    """For ``classifier``: how closely it follows the rows (the inverse of the L2 penalty, scikit-learn's ``C``)."""
    balanced: bool = True
    """For ``classifier``: let both kinds of rows weigh the same, however many there are of each. Without it a text
    that the classifier knows nothing of is toxic where most rows are."""
    seed: int = 0
    """Decides which tenth of the rows is held out."""
    checkpoint: str | None = execution(None)
    """For ``detoxify``: the folder of a model that classifies sequences, with safetensors."""
    toxic: list[str] = field(default_factory=lambda: ["toxic", "toxicity"])
    """For ``detoxify``: the names of the model's labels that mean toxic; the highest of them counts."""
    max_tokens: int = 512
    """For ``detoxify``: tokens that the model sees at a time; longer texts are seen in pieces, the worst of which
    counts."""

    def check(self) -> Iterator[Problem | str]:
        yield from _limits(self, shares=("min_share", "threshold"), least={"min_hits": 1, "max_tokens": 8})
        if self.precision is not None and not 0 < self.precision <= 1:
            yield f"precision is {self.precision:g}; it is a share, above 0 and up to 1, or null"
        if not (math.isfinite(self.strength) and self.strength > 0):
            yield f"strength is {self.strength:g}; it must be above 0"
        if self.method is Method.classifier:
            yield from _labelled(self.labelled, "toxicity")
            if not self.positive:
                yield "positive is empty; no label would mean toxic"
        if self.method is Method.detoxify:
            yield from _folder(self.checkpoint, "toxicity.checkpoint", "method is detoxify")


@dataclass
class QualityConfig(ComponentConfig):
    """Keeps documents that a classifier, fitted to labelled rows, finds good."""

    labelled: str | None = execution(None)
    """Rows with a text and a label; JSON Lines, CSV, TSV or Parquet, compressed or not."""
    text: str = "text"
    """The rows' key of texts."""
    label: str = "label"
    """The rows' key of labels: numbers such as a score of 0 to 5, or names."""
    good: list[str] = field(default_factory=lambda: ["1", "true", "good", "high"])
    """Labels, written as text, that mean good, where ``min_score`` is null; all others mean that it is not."""
    min_score: float | None = None
    """Rows with this number or more are good: 3 of FineWeb-Edu's 0 to 5."""
    features: Features = Features.hashed
    """What the classifier sees: ``hashed`` n-grams of words and characters, ``statistics`` of the text, or the
    ``embedding`` of a model."""
    classifier: Algorithm = Algorithm.logistic
    """``logistic`` regression, or a random ``forest`` as phi-1 had."""
    embedding: str | None = execution(None)
    """For ``embedding``: the folder of a Hugging Face model with safetensors; its last hidden states are averaged."""
    max_tokens: int = 512
    """Tokens of a text that the model sees, its first."""
    width: int = 1 << 18
    """For ``hashed``: features that n-grams are hashed to, a power of 2; a forest takes 4096 of them at most."""
    strength: float = 10.0
    """For ``logistic``: how closely it follows the rows (the inverse of the L2 penalty, scikit-learn's ``C``)."""
    balanced: bool = True
    """Let both kinds of rows weigh the same, however many there are of each."""
    trees: int = 200
    """For ``forest``."""
    depth: int = 24
    """For ``forest``: questions that a tree asks in a row, at most."""
    threshold: float = 0.5
    """Documents with a probability below are dropped."""
    precision: float | None = None
    """Take the lowest threshold at which so large a share of what is kept is good, among a tenth of the rows that it
    was not fitted to; ``threshold`` is not used then."""
    max_chars: int = 20_000
    """Characters of a text that are looked at, its first."""
    seed: int = 0
    """Of the forest, and of the choice of the tenth."""

    def check(self) -> Iterator[Problem | str]:
        least = {"max_tokens": 8, "trees": 1, "depth": 1, "max_chars": 1}
        yield from _limits(self, shares=("threshold",), least=least)
        if self.precision is not None and not 0 < self.precision <= 1:
            yield f"precision is {self.precision:g}; it is a share, above 0 and up to 1, or null"
        if not (math.isfinite(self.strength) and self.strength > 0):
            yield f"strength is {self.strength:g}; it must be above 0"
        if not 1 << 8 <= self.width <= 1 << 24 or self.width & (self.width - 1):
            yield f"width is {self.width}; it must be a power of 2 from 256 to 16777216"
        yield from _labelled(self.labelled, "quality_classifier")
        if self.min_score is None and not self.good:
            yield "good is empty and min_score is null; no label would mean good"
        if self.features is Features.embedding:
            yield from _folder(self.embedding, "quality_classifier.embedding", "features is embedding")


def _limits(config: Any, shares: tuple[str, ...], least: dict[str, int]) -> Iterator[str]:
    for name in shares:
        if not 0 <= getattr(config, name) <= 1:
            yield f"{name} is {getattr(config, name):g}; it lies from 0 to 1"
    for name, low in least.items():
        if getattr(config, name) < low:
            yield f"{name} is {getattr(config, name)}; it must be at least {low}"


def _labelled(path: str | None, part: str) -> Iterator[Problem]:
    if not path:
        cause = "the classifier is fitted to rows with a text and a label"
        yield Problem(f"{part}.labelled is not set", cause, f"{part}.labelled=PATH, JSON Lines, CSV or Parquet")
    if find_spec("sklearn") is None:
        yield Problem(f"{part} fits a classifier", "scikit-learn, which does so, is not installed", LEARNS)


def _folder(path: str | None, key: str, why: str) -> Iterator[Problem]:
    if not path:
        yield Problem(f"{key} is not set", why, f"{key}=FOLDER, as transformers' save_pretrained writes one")
    if find_spec("transformers") is None:
        yield Problem(f"{key} takes transformers", "it is not installed", "pip install transformers")


@hookimpl
def lmgraft_filter() -> list[Component[Any]]:
    return [
        Component(
            name="toxicity",
            target="lmgraft_classifiers.toxicity:Toxicity",
            config=ToxicityConfig,
            summary="Drops toxic documents: by words, a fitted classifier, or a model",
        ),
        Component(
            name="quality_classifier",
            target="lmgraft_classifiers.quality:Quality",
            config=QualityConfig,
            summary="Keeps what a classifier fitted to labelled rows finds good (phi-1)",
        ),
    ]
