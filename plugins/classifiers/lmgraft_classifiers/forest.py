"""A random forest (Breiman 2001, doi:10.1023/A:1010933404324), grown by scikit-learn and asked in numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Forest", "fit_forest"]

#: Rows that go through all trees at a time.
CHUNK = 256
NAMES = ("roots", "left", "right", "feature", "threshold", "value")


@dataclass(frozen=True)
class Forest:
    """All trees' nodes in one row of arrays. A leaf's children are itself."""

    roots: npt.NDArray[np.int32]
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    feature: npt.NDArray[np.int32]
    threshold: npt.NDArray[np.float64]
    value: npt.NDArray[np.float64]
    """The share of wanted rows at a node, weighted as the fit weighted them."""
    depth: int

    def scores(self, features: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """The mean over trees, for each row: scikit-learn's ``predict_proba`` of the wanted class."""
        # scikit-learn compares numbers of 32 bits with thresholds of 64.
        rows = np.ascontiguousarray(features, dtype=np.float32)
        parts = [self._scores(rows[at : at + CHUNK]) for at in range(0, len(rows), CHUNK)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What a file holds of it."""
        return {**{name: getattr(self, name) for name in NAMES}, "depth": np.array([self.depth])}

    @classmethod
    def of(cls, arrays: dict[str, npt.NDArray[Any]]) -> Forest:
        nodes = {name: array for name, array in arrays.items() if name in NAMES}
        return cls(**nodes, depth=int(arrays["depth"][0]))

    def _scores(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        node = np.broadcast_to(self.roots, (len(rows), len(self.roots)))
        which = np.arange(len(rows))[:, None]
        for _ in range(self.depth):
            down = rows[which, self.feature[node]] <= self.threshold[node]
            node = np.where(down, self.left[node], self.right[node])
        return np.asarray(self.value[node].sum(axis=1) / len(self.roots))


def fit_forest(
    features: npt.NDArray[Any], wanted: npt.NDArray[np.bool_], trees: int, depth: int, balanced: bool, seed: int
) -> Forest:
    """Grows ``trees`` trees of at most ``depth`` questions. The same rows and seed give the same forest."""
    from sklearn.ensemble import RandomForestClassifier

    weight = "balanced" if balanced else None
    model = RandomForestClassifier(trees, max_depth=depth, class_weight=weight, random_state=seed, n_jobs=1)
    return exported(model.fit(np.asarray(features, dtype=np.float32), wanted))


def exported(model: Any) -> Forest:
    """The arrays of a fitted ``RandomForestClassifier`` with the classes False and True."""
    parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in ("left", "right", "feature", "threshold", "value")}
    roots, first = [], 0
    for tree in (estimator.tree_ for estimator in model.estimators_):
        itself = np.arange(tree.node_count)
        leaf = tree.children_left < 0
        parts["left"].append(np.where(leaf, itself, tree.children_left) + first)
        parts["right"].append(np.where(leaf, itself, tree.children_right) + first)
        parts["feature"].append(np.where(leaf, 0, tree.feature))
        parts["threshold"].append(np.where(leaf, 0.0, tree.threshold))
        values = tree.value[:, 0, :]
        parts["value"].append(values[:, 1] / values.sum(axis=1))
        roots.append(first)
        first += tree.node_count
    whole = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    indices = {name: whole[name].astype(np.int32) for name in ("left", "right", "feature")}
    depth = max(estimator.tree_.max_depth for estimator in model.estimators_)
    return Forest(
        np.array(roots, np.int32),
        **indices,
        threshold=whole["threshold"].astype(np.float64),
        value=whole["value"].astype(np.float64),
        depth=depth,
    )
