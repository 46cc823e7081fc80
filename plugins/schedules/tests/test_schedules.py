"""The curves at the points where they can be told by hand."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmgraft_schedules.plugin import ConstantConfig, CosineConfig, ExponentialDecayConfig, StepDecayConfig
from lmgraft_schedules.schedules import Constant, Cosine, ExponentialDecay, StepDecay

PARTS = [
    (Cosine, CosineConfig),
    (StepDecay, StepDecayConfig),
    (ExponentialDecay, ExponentialDecayConfig),
    (Constant, ConstantConfig),
]


def test_cosine_starts_at_the_peak_and_ends_at_its_share() -> None:
    schedule = Cosine(CosineConfig(final=0.2))
    assert schedule.factor(0, 101) == 1.0
    assert schedule.factor(50, 101) == pytest.approx(0.6)  # half-way between 1 and 0.2
    assert schedule.factor(25, 101) == pytest.approx(0.2 + 0.8 * (1 + 2**-0.5) / 2)
    assert schedule.factor(100, 101) == pytest.approx(0.2)
    assert not schedule.extendable()


def test_constant_stays_at_the_peak() -> None:
    assert [Constant(ConstantConfig()).factor(step, 50) for step in range(50)] == [1.0] * 50
    assert [Constant(ConstantConfig(warmup_steps=1)).factor(step, 50) for step in range(50)] == [0.5, *[1.0] * 49]


@pytest.mark.parametrize(("part", "config"), PARTS)
@pytest.mark.parametrize("warmup", [{"warmup_steps": 4}, {"warmup_fraction": 0.04}])
def test_warm_up_rises_in_equal_steps_to_the_peak(part: Any, config: Any, warmup: dict[str, float]) -> None:
    schedule = part(config(**warmup))
    assert [schedule.factor(step, 100) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_step_decay_drops_after_the_warm_up() -> None:
    schedule = StepDecay(StepDecayConfig(every=10, gamma=0.5, warmup_steps=3))
    assert [schedule.factor(step, 99) for step in (3, 12, 13, 22, 23, 33)] == [1, 1, 0.5, 0.5, 0.25, 0.125]


def test_exponential_decay_halves_and_stops_at_the_floor() -> None:
    schedule = ExponentialDecay(ExponentialDecayConfig(half_life=10, final=0.2, warmup_steps=5))
    assert [schedule.factor(step, 99) for step in (5, 15, 25)] == pytest.approx([1, 0.5, 0.25])
    assert schedule.factor(10, 99) == pytest.approx(2**-0.5)
    assert schedule.factor(95, 99) == 0.2


@pytest.mark.parametrize(("part", "config"), PARTS[1:])
def test_extendable_means_that_a_longer_run_begins_alike(part: Any, config: Any) -> None:
    fixed, sliding = part(config(warmup_steps=5)), part(config(warmup_fraction=0.1))
    assert fixed.extendable()
    assert [fixed.factor(step, 50) for step in range(50)] == [fixed.factor(step, 5000) for step in range(50)]
    assert not sliding.extendable()
    assert sliding.factor(2, 50) != sliding.factor(2, 5000)


@given(
    which=st.sampled_from(PARTS),
    steps=st.integers(1, 300),
    warmup=st.integers(0, 400),
    fraction=st.sampled_from([0.0, 0.1, 0.99]),
)
def test_factors_lie_between_nothing_and_the_peak(which: Any, steps: int, warmup: int, fraction: float) -> None:
    part, config = which
    schedule = part(config(warmup_fraction=fraction) if fraction else config(warmup_steps=warmup))
    assert all(0 < schedule.factor(step, steps) <= 1 for step in range(steps))


@pytest.mark.parametrize(
    ("config", "word"),
    [
        (CosineConfig(warmup_steps=-1), "warmup_steps"),
        (CosineConfig(warmup_fraction=1.0), "warmup_fraction"),
        (CosineConfig(warmup_steps=5, warmup_fraction=0.1), "both"),
        (CosineConfig(final=1.5), "final"),
        (StepDecayConfig(every=0), "every"),
        (StepDecayConfig(gamma=0.0), "gamma"),
        (ExponentialDecayConfig(half_life=0.0), "half_life"),
        (ExponentialDecayConfig(final=-0.1), "final"),
    ],
)
def test_values_out_of_range_are_named(config: Any, word: str) -> None:
    assert list(type(config)().check()) == []
    (problem,) = config.check()
    assert word in problem


def test_torch_is_not_needed() -> None:
    code = "import lmgraft_schedules.schedules, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
