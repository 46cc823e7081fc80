"""The coordinate check (Yang et al. 2022, arXiv:2203.03466, section D.1): how large activations are, width by width,
after the first steps.

Under muP the mean absolute entry of every layer's output, and of the logits, stays what it is while the model grows;
under the standard start it grows with the width, step by step. One number tells: the slope of its logarithm over the
logarithm of the width, 0 where nothing changes.

``docs/mup_coordinates.py`` in the repository draws both for a Llama of 2 layers, widths 64 to 1024.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from lmgraft.seams.architecture import Architecture, Role
from lmgraft.seams.initializer import Initializer
from lmgraft.seams.optimizer import Optimizer
from lmgraft.training import weights
from torch import nn

__all__ = ["LOGITS", "SHOWN", "measure", "slope", "slopes", "tables"]

STEPS = 4
VOCABULARY = 256

#: What is measured -> the roles of the matrices whose output it is.
SHOWN = {
    "queries": Role.QUERY,
    "attention's output": Role.ATTENTION_OUT,
    "MLP's output": Role.MLP_OUT,
}
LOGITS = "logits"


def measure(
    architecture: Architecture,
    initializer: Initializer,
    optimizer: Optimizer,
    tokens: torch.Tensor,
    *,
    vocab_size: int = VOCABULARY,
    steps: int = STEPS,
    seed: int = 0,
) -> list[dict[str, float]]:
    """Mean absolute activations over ``tokens`` (B, T) before the first step and after each of ``steps``, all on these
    tokens: name in :data:`SHOWN` -> the mean over its layers; ``logits`` are those after the last position."""
    module = weights.materialise(architecture, vocab_size, "cpu")
    weights.initialise(module, architecture, initializer, seed)
    named = dict(module.named_parameters())
    roles = weights.tensor_roles(architecture, initializer, {name: held.shape for name, held in named.items()})
    stepping = optimizer.build([(name, held, roles[name]) for name, held in named.items()])
    found = [_activations(module, architecture, tokens)]
    for _ in range(steps):
        targets = torch.cat((tokens[:, 1:], torch.full_like(tokens[:, :1], -1)), 1)
        out = module(tokens, targets=targets, asks=frozenset({"logprob"}))
        (-out.logprob.sum() / (targets >= 0).sum()).backward()
        for group in stepping.param_groups:
            group["lr"] = optimizer.peak() * group.get("scale", 1.0)
        stepping.step()
        stepping.zero_grad()
        found.append(_activations(module, architecture, tokens))
    return found


def slope(widths: Sequence[int], values: Sequence[float]) -> float:
    """Least squares of log(value) over log(width)."""
    xs, ys = [math.log(width) for width in widths], [math.log(value) for value in values]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def tables(
    made: Callable[[int], tuple[Architecture, Initializer, Optimizer]],
    widths: Sequence[int],
    tokens: torch.Tensor,
    *,
    vocab_size: int = VOCABULARY,
    steps: int = STEPS,
) -> list[dict[str, list[float]]]:
    """For each step, from 0: what is measured -> its value at each width. ``made`` gives the parts of a width."""
    found: list[dict[str, list[float]]] = [{} for _ in range(steps + 1)]
    for width in widths:
        measured = measure(*made(width), tokens, vocab_size=vocab_size, steps=steps)
        for table, values in zip(found, measured, strict=True):
            for name, value in values.items():
                table.setdefault(name, []).append(value)
    return found


def slopes(table: Mapping[str, Sequence[float]], widths: Sequence[int]) -> dict[str, float]:
    """What is measured -> its slope."""
    return {name: slope(widths, values) for name, values in table.items()}


def _activations(module: nn.Module, architecture: Architecture, tokens: torch.Tensor) -> dict[str, float]:
    sums: dict[str, list[float]] = {name: [] for name in SHOWN}
    hooks = []
    for name, inner in module.named_modules():
        role = architecture.role(f"{name}.weight").role if hasattr(inner, "weight") else None
        for shown, wanted in SHOWN.items():
            if role is wanted:
                seen = sums[shown]
                hooks.append(inner.register_forward_hook(lambda _m, _i, out, seen=seen: seen.append(_mean(out))))
    with torch.no_grad():
        logits = module(tokens, asks=frozenset({"next_logits"})).next_logits
    for hook in hooks:
        hook.remove()
    return {**{name: sum(values) / len(values) for name, values in sums.items() if values}, LOGITS: _mean(logits)}


def _mean(values: torch.Tensor) -> float:
    return float(values.detach().abs().mean())
