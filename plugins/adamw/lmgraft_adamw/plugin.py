"""The optimizer ``adamw``: its name and its settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl

__all__ = ["AdamWConfig"]


@dataclass
class AdamWConfig(ComponentConfig):
    lr: float = 3e-4
    """Peak learning rate; the schedule multiplies it."""
    beta1: float = 0.9
    """Decay of the mean of gradients."""
    beta2: float = 0.95
    """Decay of the mean of squared gradients; 0.95 is usual for language models, 0.999 is Adam's own."""
    eps: float = 1e-8
    """Added to the root of the squared mean."""
    weight_decay: float = 0.1
    """Each step takes lr * weight_decay of a weight away, whatever an initializer's rules make of its learning rate;
    norms, biases and other vectors are spared."""
    decay_embeddings: bool = True
    """Whether embeddings (of tokens and positions) decay too."""

    def check(self) -> Iterator[str]:
        if self.lr <= 0:
            yield f"lr is {self.lr}; it must be above 0"
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                yield f"{name} is {getattr(self, name)}; it must be at least 0 and below 1"
        if self.eps <= 0:
            yield f"eps is {self.eps}; it must be above 0"
        if self.weight_decay < 0:
            yield f"weight_decay is {self.weight_decay}; it must be at least 0"


@hookimpl
def lmgraft_optimizer() -> list[Component[Any]]:
    return [
        Component(
            name="adamw",
            target="lmgraft_adamw.adamw:AdamW",
            config=AdamWConfig,
            summary="Adam with decoupled weight decay on matrices",
        )
    ]
