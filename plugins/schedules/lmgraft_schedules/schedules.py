"""Learning-rate schedules as factors of the peak: pure functions of step and steps.

Warm-up of w steps: factor (step + 1) / (w + 1), so that the first step moves and step w is the first at the peak.
"""

from __future__ import annotations

import math

from lmgraft_schedules.plugin import (
    ConstantConfig,
    CosineConfig,
    ExponentialDecayConfig,
    StepDecayConfig,
    WarmupConfig,
)

__all__ = ["Constant", "Cosine", "ExponentialDecay", "StepDecay"]


def _warmup(config: WarmupConfig, steps: int) -> int:
    if config.warmup_fraction > 0:
        return round(config.warmup_fraction * steps)
    return config.warmup_steps


def _fixed(config: WarmupConfig) -> bool:
    """Does the warm-up stay where it is when the run gets longer?"""
    return config.warmup_fraction == 0


class Constant:
    """After the warm-up: 1."""

    def __init__(self, config: ConstantConfig) -> None:
        self.config = config

    def factor(self, step: int, steps: int) -> float:
        warmup = _warmup(self.config, steps)
        return (step + 1) / (warmup + 1) if step < warmup else 1.0

    def extendable(self) -> bool:
        return _fixed(self.config)


class Cosine:
    """After the warm-up: final + (1 - final) (1 + cos(pi t)) / 2, t from 0 to 1 at the last step.

    Loshchilov and Hutter 2017 (SGDR, arXiv:1608.03983), one period, as in GPT-3.
    """

    def __init__(self, config: CosineConfig) -> None:
        self.config = config

    def factor(self, step: int, steps: int) -> float:
        warmup = _warmup(self.config, steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = min(1.0, (step - warmup) / max(1, steps - 1 - warmup))
        final = self.config.final
        return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2

    def extendable(self) -> bool:
        """False: every step depends on where the last one is."""
        return False


class StepDecay:
    """After the warm-up of w steps: gamma ** floor((step - w) / every)."""

    def __init__(self, config: StepDecayConfig) -> None:
        self.config = config

    def factor(self, step: int, steps: int) -> float:
        warmup = _warmup(self.config, steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return float(self.config.gamma ** ((step - warmup) // self.config.every))

    def extendable(self) -> bool:
        return _fixed(self.config)


class ExponentialDecay:
    """After the warm-up of w steps: max(final, 2 ** (-(step - w) / half_life))."""

    def __init__(self, config: ExponentialDecayConfig) -> None:
        self.config = config

    def factor(self, step: int, steps: int) -> float:
        warmup = _warmup(self.config, steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return float(max(self.config.final, 2.0 ** (-(step - warmup) / self.config.half_life)))

    def extendable(self) -> bool:
        return _fixed(self.config)
