"""The light half of ``exact_dedup``: its settings and where its class lies."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl

__all__ = ["ExactDedupConfig", "Normalise", "lmgraft_filter"]


class Normalise(Enum):
    """What is evened out before two texts are compared."""

    none = "none"
    whitespace = "whitespace"
    whitespace_case = "whitespace_case"


@dataclass
class ExactDedupConfig(ComponentConfig):
    """What counts as the same text."""

    normalise: Normalise = Normalise.whitespace
    """``none``: every character counts; ``whitespace``: runs of white space count as one space, those at the ends not
    at all; ``whitespace_case``: upper and lower case are the same too."""


@hookimpl
def lmgraft_filter() -> list[Component[Any]]:
    return [
        Component(
            name="exact_dedup",
            target="lmgraft_exact_dedup.exact_dedup:ExactDedup",
            config=ExactDedupConfig,
            summary="Keeps the first of documents with the same text, corpus-wide",
        )
    ]
