"""The adapter ``lora``: its name and its settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl

__all__ = ["PROJECTIONS", "TARGETS", "Base", "LoraConfig", "lmgraft_adapter"]

#: The roles of a decoder's projections, to which it is put unless others are named; and all that it can be put to.
PROJECTIONS = ("query", "key", "value", "attention_out", "mlp_in", "mlp_gate", "mlp_out")
TARGETS = (*PROJECTIONS, "other")


class Base(Enum):
    """How the frozen weights are held."""

    float32 = "float32"
    """As they are."""
    bfloat16 = "bfloat16"
    """Projections rounded to bfloat16: half the memory, and nothing lost where the model was stored as bfloat16. With
    precision=bfloat16 steps are those of a float32 base, bit for bit. What is exported is what was trained on, as with
    int8."""
    int8 = "int8"
    """Projections as 8-bit integers with one scale per output row: a quarter of the memory. What is exported is what
    was trained on: those weights as floats again, with the adapter folded in."""


@dataclass
class LoraConfig(ComponentConfig):
    """Two thin matrices beside each target, whose product is added to it."""

    rank: int = 8
    """Rows of the first matrix, columns of the second."""
    alpha: float = 16.0
    """The product is multiplied with alpha / rank."""
    rslora: bool = False
    """Multiply with alpha / sqrt(rank) instead, so that the step does not shrink as the rank grows."""
    targets: list[str] = field(default_factory=lambda: list(PROJECTIONS))
    """The roles of the weights it is put to: of query, key, value, attention_out, mlp_in, mlp_gate, mlp_out, and
    other: matrices of no such role (the lstm's gates, the routers of experts). One that
    an architecture lacks (an MLP without a gate) is passed over, as long as any is there."""
    base: Base = Base.float32
    """How the frozen weights are held while training."""
    dropout: float = 0.0
    """Of what the first matrix is given, this share is dropped while training. Steps that are repeated drop the same;
    another number of ranks or another micro_batch drops other numbers."""

    def check(self) -> Iterator[str]:
        if self.rank < 1:
            yield f"rank is {self.rank}; it must be at least 1"
        if self.alpha <= 0:
            yield f"alpha is {self.alpha}; it must be above 0, or the adapter changes nothing"
        if not 0 <= self.dropout < 1:
            yield f"dropout is {self.dropout}; it is a share: at least 0 and below 1"
        if not self.targets:
            yield "targets is empty; name at least one role, such as query"
        for name in self.targets:
            if name not in TARGETS:
                yield f"targets names {name!r}; it can be put to {', '.join(TARGETS)}"


@hookimpl
def lmgraft_adapter() -> list[Component[Any]]:
    return [
        Component(
            name="lora",
            target="lmgraft_lora.lora:Lora",
            config=LoraConfig,
            summary="LoRA: thin matrices beside frozen weights, folded in on export",
            variants=("paper", "bfloat16", "int8"),
        )
    ]
