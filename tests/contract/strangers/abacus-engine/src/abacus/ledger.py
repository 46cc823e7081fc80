"""Sums that outlive a microbatch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn


class GradientLedger:
    """Takes over each parameter's gradient after every backward pass, and gives the sum back once."""

    def __init__(self, parameters: Iterable[nn.Parameter], beads: str) -> None:
        self._parameters = list(parameters)
        self._dtype: torch.dtype = getattr(torch, beads)
        self._sums: dict[nn.Parameter, torch.Tensor] = {}

    def enter(self) -> None:
        for parameter in self._parameters:
            gradient = parameter.grad
            if gradient is None:
                continue
            parameter.grad = None
            # MPS knows no float64.
            place = torch.device("cpu") if gradient.device.type == "mps" else gradient.device
            gradient = gradient.to(place, self._dtype)
            if parameter in self._sums:
                self._sums[parameter] += gradient
            else:
                self._sums[parameter] = gradient

    def norm(self) -> float:
        return float(sum(float(total.double().pow(2).sum()) for total in self._sums.values())) ** 0.5

    def settle(self, clip: float | None) -> None:
        """Writes the sums, clipped to a global norm of ``clip``, back to the parameters' gradients."""
        norm = self.norm()
        factor = clip / norm if clip is not None and norm > clip else 1.0
        for parameter, total in self._sums.items():
            parameter.grad = (total * factor).to(parameter.device, parameter.dtype)
        self._sums.clear()

    def tear_out(self) -> None:
        self._sums.clear()
        for parameter in self._parameters:
            parameter.grad = None


class Tally:
    """Sums by name, of numbers or of tensors."""

    def __init__(self) -> None:
        self._sums: dict[str, Any] = {}

    def add(self, entries: Mapping[str, Any]) -> None:
        for name, value in entries.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def sums(self) -> dict[str, Any]:
        return dict(self._sums)

    def totals(self) -> dict[str, float]:
        """As denominators: a total of nothing counts as one."""
        return {name: float(value) or 1.0 for name, value in self._sums.items()}


class Averages:
    """Metrics: name -> sum / count over everything that was told."""

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])

    def add(self, metrics: Mapping[str, tuple[float, float]]) -> None:
        for name, (total, count) in metrics.items():
            self._sums[name][0] += float(total)
            self._sums[name][1] += float(count)

    def means(self) -> dict[str, float]:
        return {name: total / count for name, (total, count) in self._sums.items() if count}
