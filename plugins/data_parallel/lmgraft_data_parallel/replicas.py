"""What replicas of a model tell one another: sums, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import distributed, nn

__all__ = ["Alone", "Group", "Replicas"]

#: Gradients are summed in pieces of this many elements: large enough for bandwidth, small enough for memory.
BUCKET = 16 << 20


class Replicas(Protocol):
    rank: int
    size: int

    def sums(self, values: Mapping[str, float]) -> dict[str, float]:
        """Each value summed over replicas, which may not all know every name."""
        ...

    def shared(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The same for what ``prepare`` gave: numbers and tensors, under the same names everywhere."""
        ...

    def add_up(self, parameters: Sequence[nn.Parameter]) -> None:
        """Gradients become their sums over replicas. One that a replica has none of counts as zero there."""
        ...


class Alone:
    """One process: every sum is what it was."""

    rank, size = 0, 1

    def sums(self, values: Mapping[str, float]) -> dict[str, float]:
        return dict(values)

    def shared(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        return values

    def add_up(self, parameters: Sequence[nn.Parameter]) -> None: ...


class Group:
    """The default process group."""

    def __init__(self, device: torch.device) -> None:
        self.rank = distributed.get_rank()
        self.size = distributed.get_world_size()
        self._device = device

    def sums(self, values: Mapping[str, float]) -> dict[str, float]:
        names = self._names(values)
        numbers = torch.tensor([values.get(name, 0.0) for name in names], dtype=torch.float64, device=self._device)
        distributed.all_reduce(numbers)
        return dict(zip(names, numbers.tolist(), strict=True))

    def shared(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        found = {}
        for name in sorted(values):
            value = torch.as_tensor(values[name], device=self._device)
            value = value.clone() if value.is_floating_point() else value.double()
            distributed.all_reduce(value)
            found[name] = value if isinstance(values[name], torch.Tensor) else value.item()
        return found

    def add_up(self, parameters: Sequence[nn.Parameter]) -> None:
        for bucket in _buckets(parameters):
            for parameter in bucket:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            grads = [parameter.grad for parameter in bucket if parameter.grad is not None]
            flat = torch.cat([grad.reshape(-1) for grad in grads])
            distributed.all_reduce(flat)
            start = 0
            for grad in grads:
                grad.copy_(flat[start : start + grad.numel()].view_as(grad))
                start += grad.numel()

    def _names(self, values: Mapping[str, float]) -> list[str]:
        """All names that any replica has. A metric may be missing where a replica had only padding, so this is asked
        where the names could differ: one more exchange, of a few bytes."""
        mine = sorted(values)
        if len(mine) == 1:
            return mine
        everybody: list[list[str] | None] = [None] * self.size
        distributed.all_gather_object(everybody, mine)
        return sorted({name for names in everybody for name in names or ()})


def _buckets(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    found: list[list[nn.Parameter]] = [[]]
    filled = 0
    for parameter in parameters:
        if found[-1] and filled + parameter.numel() > BUCKET:
            found.append([])
            filled = 0
        found[-1].append(parameter)
        filled += parameter.numel()
    return found
