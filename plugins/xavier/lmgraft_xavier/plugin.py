"""The initializer ``xavier``: its name. It has no settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl

__all__ = ["XavierConfig"]


@dataclass
class XavierConfig(ComponentConfig):
    """Nothing to set: every deviation follows from the tensor's shape."""


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
