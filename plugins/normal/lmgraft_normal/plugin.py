"""The initializer ``normal``: its name and its settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl

__all__ = ["NormalConfig"]


@dataclass
class NormalConfig(ComponentConfig):
    std: float = 0.02
    """Standard deviation of every matrix, embeddings included."""
    scale_residual: bool = True
    """Divide the deviation of the projections that write to the residual stream by sqrt(2 layers)."""

    def check(self) -> Iterator[str]:
        if self.std <= 0:
            yield f"std is {self.std}; it must be above 0, or all weights start equal"


@hookimpl
def lmgraft_initializer() -> list[Component[Any]]:
    return [
        Component(
            name="normal",
            target="lmgraft_normal.normal:Normal",
            config=NormalConfig,
            summary="Normal weights, residual outputs scaled by depth (GPT-2)",
        )
    ]
