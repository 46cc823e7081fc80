"""Blends: shares exact at every beginning, places within sources without a gap, and the same from any index on."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from fractions import Fraction
from math import ceil, log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmgraft.errors import Fault
from lmgraft.training.blend import Blend

WEIGHTS = st.lists(
    st.one_of(st.integers(0, 10**12), st.floats(0, 100, allow_subnormal=False), st.sampled_from([1e-9, 1e9])),
    min_size=1,
    max_size=9,
).filter(any)
SEEDS = st.integers(0, 2**64)


def shares(weights: list[int | float]) -> list[Fraction]:
    exact = [Fraction(str(weight)) for weight in weights]
    return [weight / sum(exact) for weight in exact]


@settings(max_examples=80, deadline=None)
@given(WEIGHTS, SEEDS)
def test_every_beginning_has_its_shares(weights: list[int | float], seed: int) -> None:
    blend, exact = Blend(weights, seed), shares(weights)
    height = ceil(log2(max(1, sum(1 for weight in weights if weight))))
    sources, numbers = blend.locate(np.arange(400))
    seen: Counter[int] = Counter()
    for index, (source, number) in enumerate(zip(sources.tolist(), numbers.tolist(), strict=True)):
        assert number == seen[source]  # without a gap, so that a source's epochs are whole
        seen[source] += 1
        for one, share in enumerate(exact):
            assert abs(seen[one] - share * (index + 1)) <= height
    assert blend.counts(400) == [seen[source] for source in range(len(weights))]
    assert not any(seen[source] for source, weight in enumerate(weights) if not weight)


@settings(max_examples=60, deadline=None)
@given(WEIGHTS, SEEDS, st.integers(0, 2**62 - 100))
def test_any_stretch_is_found_without_what_comes_before(weights: list[int | float], seed: int, start: int) -> None:
    blend = Blend(weights, seed)
    begun = blend.counts(start)
    sources, numbers = blend.locate(np.arange(start, start + 40))
    seen: Counter[int] = Counter()
    for source, number in zip(sources.tolist(), numbers.tolist(), strict=True):
        assert number == begun[source] + seen[source]
        seen[source] += 1
    assert blend.counts(start + 40) == [count + seen[source] for source, count in enumerate(begun)]
    assert sum(begun) == start
    one = Blend(weights, seed).locate(np.array([start + 7]))
    assert (one[0][0], one[1][0]) == (sources[7], numbers[7])


@given(st.lists(st.integers(0, 60), min_size=1, max_size=7).filter(any), SEEDS)
def test_after_the_sum_of_the_weights_each_source_gave_its_weight(weights: list[int], seed: int) -> None:
    assert Blend(weights, seed).counts(3 * sum(weights)) == [3 * weight for weight in weights]


def test_tenths_are_tenths() -> None:
    """In floating point 0.1 + 0.2 is not 0.3, and a billion samples would show it."""
    blend = Blend([0.1, 0.2, 0.7], 1)
    assert blend.counts(10**15) == [10**14, 2 * 10**14, 7 * 10**14]
    assert blend.counts(10**15) == Blend([1, 2, 7], 1).counts(10**15) == Blend([10.0, 20.0, 70.0], 1).counts(10**15)


def test_every_batch_has_its_shares() -> None:
    """Large weights do not come in lumps: 60 and 40 of any hundred in a row, to within two."""
    sources, _ = Blend([0.6, 0.4], 3).locate(np.arange(5000))
    inside = np.convolve(sources == 0, np.ones(100), "valid")
    assert (inside.min(), inside.max()) == (60, 60)  # 0.6 * 100 is whole, so no stretch is off at all
    inside = np.convolve(sources == 0, np.ones(7), "valid")
    assert 4 <= inside.min() <= inside.max() <= 5


def test_the_seed_decides_where_it_begins() -> None:
    orders = {tuple(Blend([1, 1, 1, 1], seed).locate(np.arange(4))[0].tolist()) for seed in range(60)}
    assert len(orders) == 8  # three offsets of two values
    # A source of a small share comes early in one run and late in another, evenly.
    firsts = [int(np.argmax(Blend([1, 99], seed).locate(np.arange(100))[0] == 0)) for seed in range(400)]
    assert np.histogram(firsts, 4, (0, 100))[0].min() > 70


def test_another_process_finds_the_same() -> None:
    code = (
        "import numpy as np; from lmgraft.training.blend import Blend\n"
        "print([part.tolist() for part in Blend([0.5, 3, 0, 1.25], 11).locate(np.arange(50))])"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == str([part.tolist() for part in Blend([0.5, 3, 0, 1.25], 11).locate(np.arange(50))])


def test_the_order_is_pinned() -> None:
    """A run that was begun with an older version goes on in the same order."""
    sources, numbers = Blend([5, 3, 2], 42).locate(np.arange(12))
    assert sources.tolist() == PINNED[0]
    assert numbers.tolist() == PINNED[1]


PINNED = ([2, 0, 1, 0, 1, 0, 2, 0, 1, 0, 2, 0], [0, 0, 0, 1, 1, 2, 1, 3, 2, 4, 2, 5])


@pytest.mark.parametrize("weights", [[], [0, 0], [1, -1], [0.0]])
def test_what_shares_nothing_is_a_fault(weights: list[float]) -> None:
    with pytest.raises(Fault, match="a blend has weights"):
        Blend(weights, 0)
