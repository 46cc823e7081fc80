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
        """Each value summed over replicas. Replicas may know different names: one without microbatches knows none."""
        ...

    def shared(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The same for what ``prepare`` gave: numbers and small tensors."""
        ...

    def add_up(self, parameters: Sequence[nn.Parameter]) -> None:
        """Gradients become their sums over replicas. One that some replicas have none of counts as zero there."""
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
    """The default process group. Results are equal on every rank, bit for bit."""

    def __init__(self, device: torch.device) -> None:
        self.rank = distributed.get_rank()
        self.size = distributed.get_world_size()
        self._device = device
        self._names: list[str] = []
        """All names that any replica has ever summed, in one order everywhere."""

    def sums(self, values: Mapping[str, float]) -> dict[str, float]:
        """One exchange, where no replica has a name that is new. No replica may decide alone that there is none: so
        the number of new names is the first of what is summed."""
        fresh = values.keys() - set(self._names)
        found = self._sum(len(fresh), values)
        if found is None:
            everybody = self._gather(sorted(fresh))
            self._names += sorted({name for names in everybody for name in names})
            found = self._sum(0, values)
            assert found is not None
        return found

    def _sum(self, fresh: int, values: Mapping[str, float]) -> dict[str, float] | None:
        there = [float(name in values) for name in self._names]
        numbers = [float(fresh), *there, *(values.get(name, 0.0) for name in self._names)]
        flat = torch.tensor(numbers, dtype=torch.float64, device=self._device)
        distributed.all_reduce(flat)
        new, *summed = flat.tolist()
        if new:
            return None
        count = len(self._names)
        known = zip(self._names, summed[:count], summed[count:], strict=True)
        return {name: amount for name, holders, amount in known if holders}

    def shared(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Added in the order of ranks; tensors end up on this replica's device."""
        mine = {name: value.cpu() if isinstance(value, torch.Tensor) else value for name, value in values.items()}
        found: dict[str, Any] = {}
        for held in self._gather(mine):
            for name, amount in held.items():
                found[name] = found[name] + amount if name in found else amount
        return {
            name: value.to(self._device) if isinstance(value, torch.Tensor) else value for name, value in found.items()
        }

    def add_up(self, parameters: Sequence[nn.Parameter]) -> None:
        for bucket in _buckets(self._touched(parameters)):
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

    def _touched(self, parameters: Sequence[nn.Parameter]) -> list[nn.Parameter]:
        """Those with a gradient on any replica. The others stay without one: an optimizer passes them over, as it does
        in a single process, where a gradient of zeros would decay them."""
        flags = [float(parameter.grad is not None) for parameter in parameters]
        held = torch.tensor(flags, device=self._device)
        distributed.all_reduce(held)
        return [parameter for parameter, holders in zip(parameters, held.tolist(), strict=True) if holders]

    def _gather(self, mine: Any) -> list[Any]:
        everybody: list[Any] = [None] * self.size
        distributed.all_gather_object(everybody, mine)
        return everybody


def _buckets(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    found: list[list[nn.Parameter]] = []
    filled = 0
    for parameter in parameters:
        if not found or filled + parameter.numel() > BUCKET:
            found.append([])
            filled = 0
        found[-1].append(parameter)
        filled += parameter.numel()
    return found
