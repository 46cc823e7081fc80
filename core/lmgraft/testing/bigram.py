"""A model so small that every quantity and every gradient of it is at hand: logits are the row of a table."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from functools import lru_cache
from typing import Any

import torch

from lmgraft.seams.architecture import ASKS, Outputs
from lmgraft.seams.objective import Batch

__all__ = ["Bigram", "Flat", "Watched", "reference_shares"]


class Watched(Outputs):
    """Outputs that note which of the asks were read."""

    __slots__ = ("read",)

    def __init__(self, **answers: Any) -> None:
        self.read: set[str] = set()
        super().__init__(**answers)

    def __getattribute__(self, name: str) -> Any:
        if name in ASKS:
            object.__getattribute__(self, "read").add(name)
        return object.__getattribute__(self, name)


@lru_cache(maxsize=16)
def _drawn(vocab_size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(vocab_size, vocab_size, generator=generator), torch.randn(vocab_size, generator=generator)


class Bigram:
    """The logits after a token are its row of ``table`` (V, V); ``value`` (V,) is the scalar head's answer to it.

    Positions without a target have log-probability 0 and are never greedy, as engines have it; all else is answered
    at padding too, from whatever token stands there.
    """

    def __init__(self, vocab_size: int, *, seed: int = 0, scale: float = 1.0) -> None:
        table, value = _drawn(vocab_size, seed)
        self.table = (scale * table).requires_grad_()
        self.value = value.clone().requires_grad_()

    def answer(self, batch: Batch, asks: Collection[str]) -> Watched:
        """What ``asks`` names, (B, T) float32 each (``greedy`` bool)."""
        shares = torch.log_softmax(self.table, 1)
        asked, targets = batch.targets >= 0, batch.targets.clamp(min=0)
        found: dict[str, torch.Tensor] = {}
        if "logprob" in asks:
            found["logprob"] = torch.where(asked, shares[batch.tokens, targets], 0.0)
        if "logsumexp" in asks:
            found["logsumexp"] = torch.logsumexp(self.table, 1)[batch.tokens]
        if "entropy" in asks:
            found["entropy"] = -(shares.exp() * shares).sum(1)[batch.tokens]
        if "vocab_mean" in asks:
            found["vocab_mean"] = shares.mean(1)[batch.tokens]
        if "greedy" in asks:
            found["greedy"] = asked & (self.table.argmax(1)[batch.tokens] == targets)
        if "value" in asks:
            found["value"] = self.value[batch.tokens]
        return Watched(**found)

    def gradient(self) -> dict[str, torch.Tensor]:
        """What has arrived at the table and the head since the last call; zeros where nothing did."""
        found = {}
        for name in ("table", "value"):
            tensor: torch.Tensor = getattr(self, name)
            found[name] = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
            tensor.grad = None
        return found


@lru_cache(maxsize=4)
def reference_shares(vocab_size: int) -> torch.Tensor:
    """(V, V) log-probabilities of a model near ``Bigram(vocab_size)``: what a reference is to a policy."""
    tables = [Bigram(vocab_size, seed=seed).table.detach() for seed in (0, 9)]
    return torch.log_softmax(tables[0] + 0.1 * tables[1], 1)


class Flat:
    """A model that answers the same everywhere, however extreme: ``numbers`` gives each ask's."""

    def __init__(self, **numbers: float) -> None:
        self.numbers = numbers
        self._leaves: dict[str, torch.Tensor] = {}

    def answer(self, batch: Batch, asks: Collection[str]) -> Watched:
        """What ``asks`` names; 0 where no number was given."""
        asked = batch.targets >= 0
        found: dict[str, torch.Tensor] = {}
        for name in asks:
            if name == "greedy":
                found[name] = asked & (self.numbers.get("logprob", 0.0) == 0.0)
                continue
            leaf = torch.full(asked.shape, self.numbers.get(name, 0.0)).requires_grad_()
            self._leaves[name] = leaf
            found[name] = torch.where(asked, leaf, 0.0) if name == "logprob" else leaf * 1.0
        return Watched(**found)

    def gradient(self) -> dict[str, torch.Tensor]:
        """What arrived at the last batch's answers."""
        leaves, self._leaves = self._leaves, {}
        return {name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for name, leaf in leaves.items()}


assert {spec.name for spec in fields(Outputs)} >= ASKS, "every ask is a field of Outputs"
