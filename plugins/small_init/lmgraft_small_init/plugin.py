"""The initializers ``small_init`` and ``wang``: their names and their settings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl

__all__ = ["Others", "SmallInitConfig", "WangConfig"]


class Others(Enum):
    """By which formula ``wang`` draws what does not write to the residual stream."""

    small_init = "small_init"
    """sqrt(2 / (5 hidden)): GPT-NeoX-20B's pair."""
    wang = "wang"
    """2 / (layers sqrt(hidden)), as residual outputs."""


@dataclass
class SmallInitConfig(ComponentConfig):
    """The deviation of every matrix follows from the width alone."""


@dataclass
class WangConfig(ComponentConfig):
    """The defaults are GPT-NeoX-20B's start."""

    others: Others = Others.small_init
    """What draws all but the projections that write to the residual stream: ``small_init`` or ``wang``."""


@hookimpl
def lmgraft_initializer() -> list[Component[Any]]:
    return [
        Component(
            name="small_init",
            target="lmgraft_small_init.small_init:SmallInit",
            config=SmallInitConfig,
            summary="Normal weights of deviation sqrt(2 / (5 hidden)) (Nguyen, Salazar)",
        ),
        Component(
            name="wang",
            target="lmgraft_small_init.small_init:Wang",
            config=WangConfig,
            summary="small_init; residual outputs 2 / (layers sqrt(hidden)) (GPT-NeoX)",
        ),
    ]
