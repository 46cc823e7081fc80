from __future__ import annotations

from collections import Counter

import pytest
import torch
from lmgraft.seams.parallelism import Sampling
from lmgraft.training.sampling import Sampler, draw

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


def many(**settings: float) -> torch.Tensor:
    """(V,) how often each token comes in 6000 draws, all rows of one call."""
    logits = torch.randn(40, generator=torch.Generator().manual_seed(3)) * 2
    samplers = [Sampler(Sampling(seed=seed, **settings), prompt=[1, 2, 3]) for seed in range(6000)]  # type: ignore[arg-type]
    tokens = draw(logits.expand(6000, -1), samplers)
    return torch.bincount(torch.tensor(tokens), minlength=40) / 6000


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.7},
        {"temperature": 1.0, "top_k": 7},
        {"temperature": 1.3, "top_p": 0.8},
        {"temperature": 0.9, "top_k": 12, "top_p": 0.7, "repetition_penalty": 1.8},
        {"temperature": 1.0, "repetition_penalty": 0.5},
    ],
)
def test_distributions_are_those_of_transformers(settings: dict[str, float]) -> None:
    transformers = pytest.importorskip("transformers")
    steps = transformers.LogitsProcessorList()
    if "repetition_penalty" in settings:
        steps.append(transformers.RepetitionPenaltyLogitsProcessor(settings["repetition_penalty"]))
    steps.append(transformers.TemperatureLogitsWarper(settings["temperature"]))
    if "top_k" in settings:
        steps.append(transformers.TopKLogitsWarper(settings["top_k"]))
    if "top_p" in settings:
        steps.append(transformers.TopPLogitsWarper(settings["top_p"]))
    logits = torch.randn(40, generator=torch.Generator().manual_seed(3)) * 2
    expected = steps(torch.tensor([[1, 2, 3]]), logits[None])[0].softmax(-1)
    found = many(**settings)
    assert set(found.nonzero()[:, 0].tolist()) <= set(expected.nonzero()[:, 0].tolist())
    assert torch.allclose(found, expected, atol=0.025)


def test_all_that_are_as_probable_as_the_kth_stay() -> None:
    logits = torch.tensor([1.0] * 5 + [0.0] * 300)
    assert set(drawn(logits, temperature=1.0, top_k=2)) == set(range(5))


def test_a_flat_distribution_is_cut_as_a_sorted_one() -> None:
    # Far more tokens than are looked at first make up half of it.
    logits = torch.randn(3000, generator=torch.Generator().manual_seed(0)) * 0.1
    order = logits.argsort(descending=True)
    shares = logits.softmax(-1)[order]
    kept = set(order[shares.cumsum(0) - shares < 0.5].tolist())
    samplers = [Sampler(Sampling(temperature=1.0, top_p=0.5, seed=seed)) for seed in range(400)]
    assert set(draw(logits.expand(400, -1), samplers)) <= kept
    assert len(kept) > 1000


def test_a_row_is_drawn_as_it_is_alone() -> None:
    logits = torch.randn(6, 2000, generator=torch.Generator().manual_seed(0)) * 3
    settings = [
        Sampling(temperature=0),
        Sampling(temperature=1.0, seed=1),
        Sampling(temperature=1.0, top_k=3, seed=2),
        Sampling(temperature=2.0, top_p=0.95, seed=3),
        Sampling(temperature=1.0, top_k=900, top_p=0.5, seed=4),
        Sampling(temperature=0.8, repetition_penalty=2.0, seed=5),
    ]
    together = [Sampler(sampling, [7]) for sampling in settings]
    apart = [Sampler(sampling, [7]) for sampling in settings]
    before = logits.clone()
    for _ in range(20):
        assert draw(logits, together) == [sampler.draw(row) for row, sampler in zip(logits, apart, strict=True)]
    assert torch.equal(logits, before)


def test_what_has_no_share_is_never_drawn() -> None:
    logits = torch.full((50,), float("-inf"))
    logits[[7, 31]] = 0.0
    assert set(drawn(logits, temperature=1.0)) == {7, 31}
    assert set(drawn(logits, temperature=1.0, top_p=0.9)) == {7, 31}


@pytest.mark.parametrize("heat", [1e-50, 1e-40, 1e-20, 1.0])
@pytest.mark.parametrize("cut", [{}, {"top_p": 1e-50}, {"top_k": 2}, {"top_k": 3, "top_p": 0.5}])
def test_settings_next_to_nothing_leave_the_likeliest(heat: float, cut: dict[str, float]) -> None:
    if heat == 1 and cut.get("top_p") != 1e-50:
        return
    logits = LOGITS * 1000
    assert draw(torch.stack([logits, logits]), [Sampler(Sampling(temperature=heat, **cut))] * 2) == [BY_RANK[0]] * 2  # type: ignore[arg-type]


@pytest.mark.parametrize("penalty", [1e-300, 1e-40, 1e300])
def test_a_penalty_beyond_float32_takes_a_token_of_the_vocabulary(penalty: float) -> None:
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0])
    for heat in (0.0, 1.0):
        sampler = Sampler(Sampling(temperature=heat, top_p=0.5, repetition_penalty=penalty), prompt=[0, 1, 2])
        assert sampler.draw(logits) == (3 if penalty > 1 else 1)
