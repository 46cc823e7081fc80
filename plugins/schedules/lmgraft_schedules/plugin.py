"""The schedules ``constant``, ``cosine``, ``step_decay`` and ``exponential_decay``: their names and their settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl

__all__ = ["ConstantConfig", "CosineConfig", "ExponentialDecayConfig", "StepDecayConfig", "WarmupConfig"]


@dataclass
class WarmupConfig(ComponentConfig):
    """What the schedules share."""

    warmup_steps: int = 0
    """Steps of linear rise; 0 for none. Give this or warmup_fraction."""
    warmup_fraction: float = 0.0
    """The same as a share of all steps."""

    def check(self) -> Iterator[str]:
        if self.warmup_steps < 0:
            yield f"warmup_steps is {self.warmup_steps}; it must be at least 0"
        if not 0 <= self.warmup_fraction < 1:
            yield f"warmup_fraction is {self.warmup_fraction}; it must be at least 0 and below 1"
        if self.warmup_steps > 0 and self.warmup_fraction > 0:
            yield "warmup_steps and warmup_fraction are both set; set one of them to 0"


@dataclass
class ConstantConfig(WarmupConfig):
    """Nothing beside the warm-up."""


@dataclass
class CosineConfig(WarmupConfig):
    final: float = 0.1
    """What is left of the peak at the last step."""

    def check(self) -> Iterator[str]:
        yield from super().check()
        if not 0 <= self.final <= 1:
            yield f"final is {self.final}; it is a share of the peak, from 0 to 1"


@dataclass
class StepDecayConfig(WarmupConfig):
    every: int = 1000
    """Steps after the warm-up between two drops."""
    gamma: float = 0.5
    """What each drop multiplies with."""

    def check(self) -> Iterator[str]:
        yield from super().check()
        if self.every < 1:
            yield f"every is {self.every}; it must be at least 1"
        if not 0 < self.gamma <= 1:
            yield f"gamma is {self.gamma}; it must be above 0 and at most 1"


@dataclass
class ExponentialDecayConfig(WarmupConfig):
    half_life: float = 1000.0
    """Steps after the warm-up in which the rate halves."""
    final: float = 0.0
    """The share of the peak below which it does not fall."""

    def check(self) -> Iterator[str]:
        yield from super().check()
        if self.half_life <= 0:
            yield f"half_life is {self.half_life}; it must be above 0"
        if not 0 <= self.final <= 1:
            yield f"final is {self.final}; it is a share of the peak, from 0 to 1"


@hookimpl
def lmgraft_schedule() -> list[Component[Any]]:
    return [
        Component(
            name="constant",
            target="lmgraft_schedules.schedules:Constant",
            config=ConstantConfig,
            summary="The peak throughout, after a warm-up where one is set",
        ),
        Component(
            name="cosine",
            target="lmgraft_schedules.schedules:Cosine",
            config=CosineConfig,
            summary="Linear warm-up, then half a cosine down to a share of the peak",
        ),
        Component(
            name="step_decay",
            target="lmgraft_schedules.schedules:StepDecay",
            config=StepDecayConfig,
            summary="Linear warm-up, then a drop by a factor every so many steps",
        ),
        Component(
            name="exponential_decay",
            target="lmgraft_schedules.schedules:ExponentialDecay",
            config=ExponentialDecayConfig,
            summary="Linear warm-up, then a smooth fall with a half-life",
        ),
    ]
