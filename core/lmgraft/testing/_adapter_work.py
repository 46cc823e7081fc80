"""A few steps of an adapted model as an engine makes them, and how its tensors are kept and compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from lmgraft.seams.architecture import TensorRole
from lmgraft.seams.parallelism import EnginePlan
from lmgraft.training import freezing, weights

__all__ = ["Decaying", "Forgetful", "bits", "read", "stored", "trained"]

#: Large: what is trained must show, in a handful of steps.
RATE = 0.05


class Decaying:
    """Moves whatever it is given, gradient or not, by its decay."""

    def peak(self) -> float:
        return RATE

    def build(self, parameters: Sequence[tuple[str, nn.Parameter, TensorRole]]) -> torch.optim.Optimizer:
        return torch.optim.AdamW([parameter for _, parameter, _ in parameters], lr=RATE, weight_decay=1.0)


class Forgetful:
    """Keeps nothing from one step to the next, so that there is nothing of it to be saved between two."""

    def peak(self) -> float:
        return RATE

    def build(self, parameters: Sequence[tuple[str, nn.Parameter, TensorRole]]) -> torch.optim.Optimizer:
        return torch.optim.SGD([parameter for _, parameter, _ in parameters], lr=RATE)


def trained(
    module: nn.Module, plan: EnginePlan, batches: Sequence[tuple[torch.Tensor, torch.Tensor]], first: int = 0
) -> set[str]:
    """A step for each batch of ids and targets, on what of the module the plan trains, numbered from ``first`` and
    seeded as the loop does; the names of the parameters that a gradient other than 0 has reached."""
    module.train()
    parts = freezing.trained(module, plan)
    assert plan.optimizer is not None
    optimizer = plan.optimizer.build([(part.name, part.rows, part.role) for part in parts])
    reached: set[str] = set()
    for step, (ids, targets) in enumerate(batches, first):
        torch.manual_seed(weights.tensor_seed(plan.seed, f"step {step} of rank 0"))
        loss = -module(ids, targets=targets, asks=frozenset({"logprob"})).logprob.mean()
        if loss.requires_grad:
            loss.backward()
        for part in parts:
            part.take()
            if part.rows.grad is not None and part.rows.grad.any():
                reached.add(part.name)
        optimizer.step()
        for part in parts:
            part.clear()
    return reached


def bits(module: nn.Module) -> dict[str, bytes]:
    """Canonical name -> the tensor's bytes."""
    found = weights.canonical(module)
    return {name: tensor.contiguous().view(torch.uint8).numpy().tobytes() for name, tensor in found.items()}


def stored(module: nn.Module, file: Path) -> None:
    """Writes the module's canonical tensors, as an engine's checkpoint does."""
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in weights.canonical(module).items()}, file)


def read(file: Path, module: nn.Module) -> None:
    """Loads what :func:`stored` wrote."""
    from safetensors.torch import load_file

    found = load_file(file)
    with torch.no_grad():
        for name, tensor in weights.canonical(module).items():
            tensor.copy_(found[name])
