"""Logistic regression on hashed n-grams or dense features: fitted by scikit-learn, applied by numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lmgraft_classifiers.hashing import Counts

__all__ = ["Dense", "Linear", "fit_dense", "fit_hashed"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Linear:
    """Weights of hashed features: tf-idf with 1 + log tf, texts of length 1 (Salton and Buckley 1988)."""

    idf: Floats
    weights: Floats
    bias: float

    def scores(self, counts: Counts) -> Floats:
        """A probability for each text."""
        values = (1 + np.log(counts.counts)) * self.idf[counts.features]
        number = counts.shape[0]
        # Sums go over a text's own features in their order: neither batches nor threads change a bit of them.
        length = np.sqrt(np.bincount(counts.rows, values * values, minlength=number))
        total = np.bincount(counts.rows, values * self.weights[counts.features], minlength=number)
        return _probability(np.divide(total, length, out=np.zeros(number), where=length > 0) + self.bias)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What a file holds of it."""
        return {"idf": self.idf, "weights": self.weights, "bias": np.array([self.bias])}

    @classmethod
    def of(cls, arrays: dict[str, npt.NDArray[Any]]) -> Linear:
        return cls(arrays["idf"], arrays["weights"], float(arrays["bias"][0]))


@dataclass(frozen=True)
class Dense:
    """Weights of dense features, each shifted and scaled to mean 0 and variance 1 of the rows it was fitted to."""

    mean: Floats
    scale: Floats
    weights: Floats
    bias: float

    def scores(self, features: Floats) -> Floats:
        """A probability for each row."""
        scaled = (features - self.mean) / self.scale
        # No matrix product: its sums change their order with the number of rows.
        return _probability((scaled * self.weights).sum(axis=1) + self.bias)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {"mean": self.mean, "scale": self.scale, "weights": self.weights, "bias": np.array([self.bias])}

    @classmethod
    def of(cls, arrays: dict[str, npt.NDArray[Any]]) -> Dense:
        return cls(arrays["mean"], arrays["scale"], arrays["weights"], float(arrays["bias"][0]))


def fit_hashed(counts: Counts, wanted: npt.NDArray[np.bool_], strength: float, balanced: bool) -> Linear:
    """Fits weights to counted texts; ``idf`` is ln((1 + texts) / (1 + texts with the feature)) + 1."""
    texts, width = counts.shape
    seen = np.bincount(counts.features, minlength=width)
    idf = np.log((1 + texts) / (1 + seen)) + 1
    values = (1 + np.log(counts.counts)) * idf[counts.features]
    length = np.sqrt(np.bincount(counts.rows, values * values, minlength=texts))
    # Only features that occur are fitted: the others' weights are 0.
    used = np.flatnonzero(seen)
    matrix = counts.matrix(values / length[counts.rows])[:, used]
    weights = np.zeros(width)
    weights[used], bias = _regression(matrix, wanted, strength, balanced)
    return Linear(idf, weights, bias)


def fit_dense(features: Floats, wanted: npt.NDArray[np.bool_], strength: float, balanced: bool) -> Dense:
    """Fits weights to rows of numbers."""
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale[scale == 0] = 1
    weights, bias = _regression((features - mean) / scale, wanted, strength, balanced)
    return Dense(mean, scale, weights, bias)


def _regression(matrix: Any, wanted: npt.NDArray[np.bool_], strength: float, balanced: bool) -> tuple[Floats, float]:
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        weight = "balanced" if balanced else None
        model = LogisticRegression(C=strength, max_iter=1000, class_weight=weight).fit(matrix, wanted)
    return model.coef_[0], float(model.intercept_[0])


def _probability(logits: Floats) -> Floats:
    # Both branches without overflow.
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1 / (1 + small), small / (1 + small))
