"""Parts that the kit puts around others, to see what an engine does with groups, ``prepare`` and a model's own losses.

Each rank makes its own; what they note is read on the rank that made them.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from lmgraft.seams.architecture import Architecture, DecoderSpec, Outputs, Role, TensorRole
from lmgraft.seams.data_source import Document
from lmgraft.seams.initializer import Initializer, ModelShape
from lmgraft.seams.objective import Batch, Example, Loss, Objective
from lmgraft.seams.optimizer import Optimizer
from lmgraft.seams.tokenizer import TextTokenizer

__all__ = ["SCALES", "Grouped", "Plain", "Prepared", "Ruled", "Watched", "scale_of"]

SCALES = (1.0, 0.5, 0.0)


def scale_of(name: str) -> float:
    """What the group of this parameter multiplies the learning rate by."""
    return SCALES[zlib.crc32(name.encode()) % len(SCALES)]


class Grouped:
    """An optimizer of which each group is split into three that learn at 1, 1/2 and 0 times the rate."""

    def __init__(self, inner: Optimizer, roles: Mapping[str, TensorRole]) -> None:
        """``roles``: canonical name -> what a parameter is to come with."""
        self._inner, self._roles = inner, roles
        self.misled: list[str] = []
        """Parameters that came with another role than the architecture's."""
        self.unruled: dict[str, tuple[float, float]] = {}
        """Parameters that came with another learning rate than the initializer's: theirs, and the right one."""

    def peak(self) -> float:
        return self._inner.peak()

    def build(self, parameters: Sequence[tuple[str, nn.Parameter, TensorRole]]) -> torch.optim.Optimizer:
        right = {name: self._roles[name] for name, _, _ in parameters if name in self._roles}
        given = {name: role for name, _, role in parameters}
        self.misled = [name for name, role in given.items() if name not in right or _apart(role, right[name])]
        self.unruled = {
            name: (given[name].lr_scale, role.lr_scale)
            for name, role in right.items()
            if given[name].lr_scale != role.lr_scale
        }
        optimizer = self._inner.build(parameters)
        scales = {id(parameter): scale_of(name) for name, parameter, _ in parameters}
        found = []
        for group in optimizer.param_groups:
            for scale in SCALES:
                own = [one for one in group["params"] if scales[id(one)] == scale]
                found += [{**group, "params": own, "scale": scale}] if own else []
        optimizer.param_groups[:] = found
        return optimizer


def _apart(one: TensorRole, other: TensorRole) -> bool:
    return (one.role, one.layer) != (other.role, other.layer)


class Ruled:
    """An initializer with rules for learning rates, by roles and by whole shapes: a padded table has others."""

    def __init__(self, inner: Initializer) -> None:
        self._inner = inner

    def fill(self, tensor: torch.Tensor, role: TensorRole, shape: ModelShape, generator: torch.Generator) -> None:
        self._inner.fill(tensor, role, shape, generator)

    def lr_scale(self, role: TensorRole, size: Sequence[int], shape: ModelShape) -> float:
        if role.role in (Role.EMBEDDING, Role.HEAD):
            return 8 / size[0]
        # What an engine may keep in one matrix learns alike.
        return {Role.MLP_IN: 2.0, Role.MLP_GATE: 2.0, Role.MLP_OUT: 0.25, Role.NORM: 0.5}.get(role.role, 1.0)


class Plain:
    """Gradient descent: a step goes by the rate times the gradient, as long as that is."""

    def peak(self) -> float:
        return 1.0

    def build(self, parameters: Sequence[tuple[str, nn.Parameter, TensorRole]]) -> torch.optim.Optimizer:
        # With momentum there is a state to save; the first step is the gradient's all the same.
        return torch.optim.SGD([parameter for _, parameter, _ in parameters], lr=0.0, momentum=0.5)


class Prepared:
    """An objective whose terms are weighed by a sum over the whole batch, and which tells two metrics: one of them
    counts nothing. Only the module stands inside autocast and, for ``prepare``, without gradients."""

    def __init__(self, inner: Objective, device: str) -> None:
        self._inner, self._device = inner, device
        self.asks = inner.asks | {"logprob"}
        self.notes = {"prepared": 0, "graph": False, "autocast": False, "wide": True}

    def columns(self) -> frozenset[str]:
        return self._inner.columns()

    def encode(self, document: Document, tokenizer: TextTokenizer) -> list[Example]:
        return self._inner.encode(document, tokenizer)

    def normalizers(self, batch: Batch) -> dict[str, float]:
        return self._inner.normalizers(batch)

    def prepare(self, out: Outputs, batch: Batch) -> Mapping[str, Any]:
        logprob = self._seen(out)
        self.notes["prepared"] += 1
        self.notes["graph"] |= logprob.requires_grad
        return {"nats": -(logprob * batch.weights).sum().detach(), "tokens": float(batch.weights.sum())}

    def loss(self, out: Outputs, batch: Batch, shared: Mapping[str, Any]) -> Loss:
        """Takes ``shared`` for what it is: without it the factor is 1, and the loss another one."""
        logprob = self._seen(out)
        factor = shared["nats"] / shared["tokens"] if {"nats", "tokens"} <= shared.keys() else 1.0
        nats = -float((logprob.detach() * batch.weights).sum())
        found = self._inner.loss(out, batch, shared)
        metrics = {**found.metrics, "kit_nats": (nats, float(batch.weights.sum())), "kit_nothing": (0.0, 0.0)}
        return Loss({name: term * factor for name, term in found.terms.items()}, metrics)

    def _seen(self, out: Outputs) -> torch.Tensor:
        assert out.logprob is not None, "an engine gives what it is asked for"
        self.notes["autocast"] |= torch.is_autocast_enabled(self._device)
        self.notes["wide"] &= out.logprob.dtype == torch.float32
        return out.logprob


class Watched:
    """An architecture whose module notes in which mode it is run; with ``loss`` it brings one of its own: the norm of
    its first parameter, whose gradient is 1 long, in every microbatch."""

    def __init__(self, inner: Architecture, *, loss: bool) -> None:
        self._inner, self._loss = inner, loss
        self.calls: list[str] = []
        """``training`` or ``evaluating`` for each pass."""

    def build(self, vocab_size: int, device: str = "meta") -> nn.Module:
        module = self._inner.build(vocab_size, device)
        module.__class__ = _watching(type(module), self.calls, self._loss)
        return module

    def role(self, name: str) -> TensorRole:
        return self._inner.role(name)

    def flops(self, seq_len: int, vocab_size: int = 0) -> float:
        return self._inner.flops(seq_len, vocab_size)

    def context(self) -> int:
        return self._inner.context()

    def hub_config(self, vocab_size: int) -> dict[str, Any]:
        return self._inner.hub_config(vocab_size)

    def spec(self) -> DecoderSpec | None:
        return self._inner.spec()

    def __getattr__(self, name: str) -> Any:
        if name == "_inner":  # copied, and not filled yet
            raise AttributeError(name)
        return getattr(self._inner, name)  # to_hub and from_hub, where it has them


def _watching(kind: type[nn.Module], calls: list[str], loss: bool) -> type[nn.Module]:
    class Watching(kind):  # type: ignore[misc, valid-type]
        def forward(self, *args: Any, **kwargs: Any) -> Outputs:
            calls.append("training" if self.training else "evaluating")
            out: Outputs = super().forward(*args, **kwargs)
            if loss:
                out.model_losses = {**out.model_losses, "kit": next(iter(self.parameters())).float().norm()}
            return out

    return Watching
