"""The initializer ``xavier``: its name and its settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl

__all__ = ["XavierConfig"]


@dataclass
class XavierConfig(ComponentConfig):
    """The deviations of matrices follow from their shapes."""

    embedding: float | None = None
    """The embeddings' deviation; null takes hidden^(-1/2). Where a model multiplies embeddings with hidden^(1/2), as
    fairseq's Transformers do, the same start is 1."""

    def check(self) -> Iterator[str]:
        if self.embedding is not None and self.embedding <= 0:
            yield f"embedding is {self.embedding}; it must be above 0, or null"


@hookimpl
def lmgraft_initializer() -> list[Component[Any]]:
    return [
        Component(
            name="xavier",
            target="lmgraft_xavier.xavier:Xavier",
            config=XavierConfig,
            summary="Uniform weights by fan-in and fan-out (Glorot), embeddings normal",
        )
    ]
