"""The light module: names and settings, nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from lmgraft.component import Component, ComponentConfig, execution
from lmgraft.hookspecs import hookimpl


class Beads(Enum):
    """In which type gradients are added up."""

    # Recipes name the member, so a member is called what it stands for.
    float64 = "float64"
    float32 = "float32"


@dataclass
class AbacusConfig(ComponentConfig):
    """One process that takes one microbatch after another."""

    beads: Beads = execution(Beads.float64)
    """The type that gradients of microbatches are added up in; float32 takes half of the memory."""

    threads: int | None = execution(None)
    """Processor threads of a tensor operation; null leaves torch's own choice."""

    def check(self) -> Iterator[str]:
        if self.threads is not None and self.threads < 1:
            yield f"threads is {self.threads}; it must be at least 1, or null"


@hookimpl
def lmgraft_parallelism() -> list[Component]:
    return [
        Component(
            name="abacus",
            target="abacus.layout:AbacusLayout",
            config=AbacusConfig,
            summary="One process; gradients are added up in float64",
            api=2,
        )
    ]
