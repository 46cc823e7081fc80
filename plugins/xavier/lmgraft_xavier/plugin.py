"""The initializer ``xavier``: its name and its settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl

__all__ = ["Distribution", "XavierConfig"]


class Distribution(Enum):
    uniform = "uniform"
    normal = "normal"


@dataclass
class XavierConfig(ComponentConfig):
    distribution: Distribution = Distribution.uniform
    """Of the matrices; both have the deviation sqrt(2 / (inputs + outputs))."""
    embedding_std: float | None = None
    """Standard deviation of the embedding and of a position table; null: hidden^-1/2."""

    def check(self) -> Iterator[str]:
        if self.embedding_std is not None and self.embedding_std <= 0:
            yield f"embedding_std is {self.embedding_std}; it must be above 0, or all tokens start equal"


@hookimpl
def lmgraft_initializer() -> list[Component[Any]]:
    return [
        Component(
            name="xavier",
            target="lmgraft_xavier.xavier:Xavier",
            config=XavierConfig,
            summary="Glorot's weights: deviation sqrt(2 / (inputs + outputs))",
        )
    ]
