"""The initializer ``tfixup``: its name and its settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl

__all__ = ["TFixupConfig"]


@dataclass
class TFixupConfig(ComponentConfig):
    """For models without norms, trained without warm-up."""

    branch: float = 0.67
    """What value, attention output and MLP matrices are multiplied with, times layers^(-1/4). 0.67 solves
    2 a^4 + 4/3 a^2 = 1, the condition for two residual branches a block (docs/tfixup.md)."""
    embedding: float | None = None
    """The embeddings' deviation before their (9 N)^(-1/4); null takes the paper's hidden^(-1/2). Where a model
    multiplies embeddings with hidden^(1/2), as fairseq's Transformers do, the same start is 1."""

    def needs(self) -> frozenset[str]:
        return frozenset({"no_norm"})

    def check(self) -> Iterator[str]:
        if self.branch <= 0:
            yield f"branch is {self.branch}; it must be above 0, or blocks send nothing and learn nothing"
        if self.embedding is not None and self.embedding <= 0:
            yield f"embedding is {self.embedding}; it must be above 0, or null"


@hookimpl
def lmgraft_initializer() -> list[Component[Any]]:
    return [
        Component(
            name="tfixup",
            target="lmgraft_tfixup.tfixup:TFixup",
            config=TFixupConfig,
            summary="T-Fixup: trains deep models without norms and without warm-up",
        )
    ]
