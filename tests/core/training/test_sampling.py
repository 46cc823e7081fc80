from __future__ import annotations

from collections import Counter

import pytest
import torch
from lmgraft.seams.parallelism import Sampling
from lmgraft.training.sampling import Sampler

LOGITS = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05]).log()[torch.tensor([3, 0, 4, 1, 2])]  # probabilities, shuffled
BY_RANK = [1, 3, 4, 0, 2]


def drawn(logits: torch.Tensor = LOGITS, **settings: float) -> Counter[int]:
    sampler = Sampler(Sampling(**settings))  # type: ignore[arg-type]
    return Counter(sampler.draw(logits) for _ in range(4000))


def test_temperature_zero_takes_the_first_largest() -> None:
    assert Sampler(Sampling(temperature=0)).draw(torch.tensor([1.0, 3.0, 3.0])) == 1


def test_frequencies_follow_the_distribution() -> None:
    counts = drawn(temperature=1.0)
    for rank, share in enumerate([0.5, 0.2, 0.15, 0.1, 0.05]):
        assert counts[BY_RANK[rank]] / 4000 == pytest.approx(share, abs=0.03)


def test_temperature_sharpens() -> None:
    counts = drawn(temperature=0.5)
    shares = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05]) ** 2
    assert counts[BY_RANK[0]] / 4000 == pytest.approx(float(shares[0] / shares.sum()), abs=0.03)


@pytest.mark.parametrize(("k", "kept"), [(1, 1), (2, 2), (5, 5), (50, 5), (0, 5)])
def test_top_k(k: int, kept: int) -> None:
    assert set(drawn(temperature=1.0, top_k=k)) == set(BY_RANK[:kept])


@pytest.mark.parametrize(("p", "kept"), [(0.01, 1), (0.49, 1), (0.6, 2), (0.84, 3), (1.0, 5)])
def test_top_p_keeps_the_smallest_set_that_reaches_it(p: float, kept: int) -> None:
    assert set(drawn(temperature=1.0, top_p=p)) == set(BY_RANK[:kept])


def test_top_p_measures_what_top_k_left() -> None:
    # 0.5 and 0.2 of 0.7: the first alone is 71%.
    assert set(drawn(temperature=1.0, top_k=2, top_p=0.7)) == {BY_RANK[0]}
    assert set(drawn(temperature=1.0, top_k=2, top_p=0.72)) == set(BY_RANK[:2])
