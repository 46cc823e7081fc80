"""The quality classifier's two halves, features and what decides on them, fitted together and kept as arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lmgraft_classifiers.forest import Forest, fit_forest
from lmgraft_classifiers.hashing import Counts, counted
from lmgraft_classifiers.linear import Dense, Linear, fit_dense, fit_hashed
from lmgraft_classifiers.plugin import Algorithm, Features, QualityConfig
from lmgraft_classifiers.saved import Arrays

__all__ = ["Model", "fitted", "opened"]

Floats = npt.NDArray[np.float64]
#: Hashed features that a forest sees.
FOREST_WIDTH = 4096


class Model(Protocol):
    """Texts to probabilities of being good."""

    def scores(self, texts: Sequence[str]) -> Floats: ...

    def arrays(self) -> Arrays: ...


class Hashed:
    """Hashed n-grams and logistic regression."""

    def __init__(self, linear: Linear) -> None:
        self._linear = linear

    def scores(self, texts: Sequence[str]) -> Floats:
        return self._linear.scores(counted(texts, len(self._linear.idf)))

    def arrays(self) -> Arrays:
        return self._linear.arrays()


class HashedForest:
    """Hashed n-grams, those that tell most of the labels, and a forest."""

    def __init__(self, chosen: npt.NDArray[np.int64], width: int, forest: Forest) -> None:
        self._chosen, self._width, self._forest = chosen, width, forest

    def scores(self, texts: Sequence[str]) -> Floats:
        return self._forest.scores(frequencies(counted(texts, self._width), self._chosen))

    def arrays(self) -> Arrays:
        return {"chosen": self._chosen, "width": np.array([self._width]), **self._forest.arrays()}


class Numbers:
    """A few numbers of each text, and either classifier."""

    def __init__(self, features: Callable[[Sequence[str]], Floats], decides: Dense | Forest) -> None:
        self._features, self._decides = features, decides

    def scores(self, texts: Sequence[str]) -> Floats:
        return self._decides.scores(self._features(texts))

    def arrays(self) -> Arrays:
        return self._decides.arrays()


def fitted(config: QualityConfig, texts: Sequence[str], good: npt.NDArray[np.bool_]) -> Model:
    """A model fitted to texts and whether they are good."""
    forest = config.classifier is Algorithm.forest
    if config.features is not Features.hashed:
        features = _numbers(config)
        rows = features(texts)
        return Numbers(
            features, _grown(config, rows, good) if forest else fit_dense(rows, good, config.strength, config.balanced)
        )
    counts = counted(texts, config.width)
    if not forest:
        return Hashed(fit_hashed(counts, good, config.strength, config.balanced))
    chosen = telling(counts, good)
    return HashedForest(chosen, config.width, _grown(config, frequencies(counts, chosen), good))


def opened(config: QualityConfig, arrays: Arrays) -> Model:
    """A model from what its :meth:`Model.arrays` gave."""
    forest = config.classifier is Algorithm.forest
    if config.features is not Features.hashed:
        return Numbers(_numbers(config), Forest.of(arrays) if forest else Dense.of(arrays))
    if not forest:
        return Hashed(Linear.of(arrays))
    return HashedForest(arrays["chosen"], int(arrays["width"][0]), Forest.of(arrays))


def telling(counts: Counts, wanted: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The features of the highest chi-squared statistic of presence and label (Yang and Pedersen 1997), ascending."""
    texts, width = counts.shape
    seen = np.bincount(counts.features, minlength=width)
    with_label = np.bincount(counts.features, weights=wanted[counts.rows], minlength=width)
    expected = seen * wanted.mean()
    spread = expected * (1 - wanted.mean()) * (1 - seen / texts)
    chi = np.divide((with_label - expected) ** 2, spread, out=np.zeros(width), where=spread > 0)
    return np.sort(np.argsort(-chi, kind="stable")[:FOREST_WIDTH])


def frequencies(counts: Counts, chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """For each text the share of its n-grams that each chosen feature has, dense."""
    column = np.full(counts.shape[1], -1, dtype=np.int64)
    column[chosen] = np.arange(len(chosen))
    columns = column[counts.features]
    total = np.bincount(counts.rows, weights=counts.counts, minlength=counts.shape[0])
    here = columns >= 0
    dense = np.zeros((counts.shape[0], len(chosen)), dtype=np.float32)
    dense[counts.rows[here], columns[here]] = counts.counts[here] / total[counts.rows[here]]
    return dense


def _grown(config: QualityConfig, rows: npt.NDArray[np.floating], good: npt.NDArray[np.bool_]) -> Forest:
    return fit_forest(rows, good, config.trees, config.depth, config.balanced, config.seed)


def _numbers(config: QualityConfig) -> Callable[[Sequence[str]], Floats]:
    if config.features is Features.embedding:
        from lmgraft_classifiers.pretrained import embedder

        return embedder(config)
    from lmgraft_classifiers.statistics import statistics

    return statistics
