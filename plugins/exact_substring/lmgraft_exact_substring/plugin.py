"""The light half of ``exact_substring``: its settings and where its class lies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl

__all__ = ["Action", "ExactSubstringConfig", "lmgraft_filter"]


class Action(Enum):
    """What becomes of a document that repeats something."""

    cut = "cut"
    drop = "drop"


@dataclass
class ExactSubstringConfig(ComponentConfig):
    """How long a repeated span is, and what is done about it."""

    min_bytes: int = 100
    """UTF-8 bytes that a repeated span has at least; 100 are about the 50 tokens of the paper."""
    action: Action = Action.cut
    """``cut``: repeated spans are cut out of later documents; ``drop``: those documents are dropped whole."""
    min_keep: int = 20
    """With ``action: cut``: a document of which fewer characters are left is dropped."""

    def check(self) -> Iterator[str]:
        if not 16 <= self.min_bytes <= 100_000:
            yield f"min_bytes is {self.min_bytes}; it must be from 16 to 100000"
        if self.min_keep < 0:
            yield f"min_keep is {self.min_keep}; it counts characters and cannot be negative"


@hookimpl
def lmgraft_filter() -> list[Component[Any]]:
    return [
        Component(
            name="exact_substring",
            target="lmgraft_exact_substring.exact_substring:ExactSubstring",
            config=ExactSubstringConfig,
            summary="Cuts spans out that stood earlier in the corpus, byte for byte",
        )
    ]
