"""Forests and regressions kept as arrays give scikit-learn's own probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from lmgraft_classifiers.forest import Forest, exported, fit_forest
from lmgraft_classifiers.hashing import counted
from lmgraft_classifiers.linear import Dense, Linear, fit_dense, fit_hashed
from lmgraft_classifiers.statistics import NAMES, statistics
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

RNG = np.random.default_rng(3)
ROWS = RNG.normal(size=(700, 12))
WANTED = ROWS[:, 0] * ROWS[:, 1] + 0.3 * RNG.normal(size=700) > 0.2


@pytest.mark.parametrize(("depth", "weight"), [(None, None), (1, None), (6, "balanced")])
def test_a_forest_of_arrays_is_scikit_learns(depth: int | None, weight: str | None) -> None:
    model = RandomForestClassifier(40, max_depth=depth, class_weight=weight, random_state=1).fit(
        ROWS.astype(np.float32), WANTED
    )
    others = RNG.normal(size=(600, 12))
    wanted = model.predict_proba(others.astype(np.float32))[:, 1]
    forest = exported(model)
    assert np.abs(forest.scores(others) - wanted).max() < 1e-9
    again = Forest.of(forest.arrays())
    assert np.array_equal(again.scores(others), forest.scores(others))
    # Values at the thresholds themselves, where 32 and 64 bits differ.
    edges = np.repeat(forest.threshold[:12][None, :], 5, axis=0)
    assert np.abs(forest.scores(edges) - model.predict_proba(edges.astype(np.float32))[:, 1]).max() < 1e-9


def test_a_forest_is_the_same_for_a_seed_and_any_batch() -> None:
    first, second = (fit_forest(ROWS, WANTED, 10, 8, True, seed=4) for _ in range(2))
    assert np.array_equal(first.scores(ROWS), second.scores(ROWS))
    assert not np.array_equal(first.scores(ROWS), fit_forest(ROWS, WANTED, 10, 8, True, seed=5).scores(ROWS))
    assert np.array_equal(first.scores(ROWS), np.concatenate([first.scores(ROWS[at : at + 1]) for at in range(700)]))
    assert first.scores(ROWS[:0]).shape == (0,)


def test_dense_regression_is_scikit_learns() -> None:
    model = fit_dense(ROWS, WANTED, 2.0, False)
    scaled = (ROWS - ROWS.mean(axis=0)) / ROWS.std(axis=0)
    peer = LogisticRegression(C=2.0, max_iter=1000).fit(scaled, WANTED)
    assert np.abs(model.scores(ROWS) - peer.predict_proba(scaled)[:, 1]).max() < 1e-9
    one_by_one = np.concatenate([Dense.of(model.arrays()).scores(ROWS[at : at + 1]) for at in range(len(ROWS))])
    assert np.array_equal(model.scores(ROWS), one_by_one)


def test_hashed_regression_is_scikit_learns() -> None:
    from sklearn.feature_extraction.text import TfidfTransformer

    texts = [f"number {n} is {'good' if n % 3 else 'bad'} text {n % 7}" for n in range(90)]
    wanted = np.arange(90) % 3 > 0
    counts = counted(texts, 1 << 12)
    model = fit_hashed(counts, wanted, 5.0, True)
    matrix = TfidfTransformer(sublinear_tf=True).fit_transform(counts.matrix(counts.counts.astype(float)))
    peer = LogisticRegression(C=5.0, max_iter=1000, class_weight="balanced").fit(matrix, wanted)
    # The same matrix to the last digits; the solver stops within its tolerance.
    assert np.abs(model.scores(counts) - peer.predict_proba(matrix)[:, 1]).max() < 1e-3
    logits = matrix @ model.weights + model.bias
    assert np.abs(model.scores(counts) - 1 / (1 + np.exp(-logits))).max() < 1e-9
    one_by_one = np.concatenate([Linear.of(model.arrays()).scores(counted([text], 1 << 12)) for text in texts])
    assert np.array_equal(model.scores(counts), one_by_one)


def test_statistics_tell_prose_from_a_menu() -> None:
    prose = "The cat sat on the mat, and it was glad of it. What else would a cat do in the house?\nIt slept."
    menu = "* Home\n* Products 24\n* Home\n* LOGIN\nhttps://example.org/"
    rows = dict(zip(NAMES, statistics([prose, menu, ""]).T, strict=True))
    assert rows["full_lines"].tolist() == [1.0, 0.0, 0.0]
    assert rows["bullet_lines"].tolist() == [0.0, 0.8, 0.0]
    assert rows["repeated_lines"][1] == pytest.approx(0.2)
    assert rows["function_words"][0] > 0.4 > rows["function_words"][1]
    assert rows["entropy"][2] == 0
    assert np.isfinite(statistics(["", " ", "\n", "1", "я", "x" * 1000])).all()
