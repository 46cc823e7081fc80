"""The initializer ``tfixup``: its name and its settings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl

__all__ = ["Distribution", "TFixupConfig"]


class Distribution(Enum):
    uniform = "uniform"
    normal = "normal"


@dataclass
class TFixupConfig(ComponentConfig):
    distribution: Distribution = Distribution.uniform
    """Of the matrices before they are scaled; both have Xavier's deviation sqrt(2 / (inputs + outputs))."""

    def needs(self) -> frozenset[str]:
        """The constants are derived for branches without a norm. Warm-up is not needed, and not refused either."""
        return frozenset({"no_norm"})


@hookimpl
def lmgraft_initializer() -> list[Component[Any]]:
    return [
        Component(
            name="tfixup",
            target="lmgraft_tfixup.tfixup:TFixup",
            config=TFixupConfig,
            summary="T-Fixup: trains without LayerNorm and without warm-up",
        )
    ]
