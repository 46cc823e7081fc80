"""Settings of stretched rotary positions. Light: no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import Enum

from lmgraft.seams.architecture import RopeScaling

__all__ = ["Stretch", "StretchKind"]


class StretchKind(Enum):
    """How rotary wavelengths are stretched."""

    none = "none"
    linear = "linear"
    llama3 = "llama3"


@dataclass
class Stretch:
    """How the wavelengths of rotary positions are stretched for sequences longer than the model was first made for."""

    kind: StretchKind = StretchKind.none
    """``linear``: all of them by ``factor`` (Chen et al. 2023, arXiv:2306.15595); ``llama3``: the long ones by
    ``factor``, the short ones not at all (Llama 3.1)."""
    factor: float = 1.0
    """How many times longer."""
    low_freq_factor: float = 1.0
    """``llama3``: wavelengths above original_context / low_freq_factor are stretched whole."""
    high_freq_factor: float = 4.0
    """``llama3``: wavelengths below original_context / high_freq_factor stay; in between, smoothly."""
    original_context: int = 8192
    """``llama3``: the context before."""

    def check(self) -> Iterator[str]:
        """Problems of the values, each beginning with the field's name within the settings."""
        numbers = ("factor", "low_freq_factor", "high_freq_factor", "original_context")
        for name in numbers:
            if not 0 < getattr(self, name) < math.inf:
                yield f"rope_scaling.{name} is {getattr(self, name)}; it must be a number above 0"
        used = {StretchKind.none: (), StretchKind.linear: ("factor",), StretchKind.llama3: numbers}[self.kind]
        for spec in fields(self):
            if spec.name != "kind" and spec.name not in used and getattr(self, spec.name) != spec.default:
                value, kind = getattr(self, spec.name), self.kind.value
                yield f"rope_scaling.{spec.name} is {value}, and rope_scaling.kind {kind} does not use it"
        if self.kind is StretchKind.llama3 and not self.high_freq_factor > self.low_freq_factor:
            yield (
                f"rope_scaling.high_freq_factor is {self.high_freq_factor}; "
                f"it must be above low_freq_factor ({self.low_freq_factor})"
            )

    def spec(self) -> RopeScaling | None:
        """None: they are as they are."""
        if self.kind is StretchKind.none:
            return None
        return RopeScaling(
            kind=self.kind.value,
            factor=self.factor,
            low_freq_factor=self.low_freq_factor,
            high_freq_factor=self.high_freq_factor,
            original_context=self.original_context,
        )
