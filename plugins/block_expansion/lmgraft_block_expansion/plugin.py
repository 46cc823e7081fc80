"""The merge ``block_expansion``: its name and its settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl

__all__ = ["EVERY", "BlockExpansionConfig"]

#: Layers of a group in the paper: 32 in 8 groups.
EVERY = 4


@dataclass
class BlockExpansionConfig(ComponentConfig):
    takes_models: ClassVar[tuple[int, int | None]] = (1, 1)
    examples: ClassVar[tuple[str, ...]] = ("MODEL OUT", "MODEL OUT --every 8", "MODEL OUT --groups 8 --copies 2")

    every: int | None = None
    """Layers of a group; new ones come after each group. Null: 4, the paper's, unless ``groups`` is given."""
    groups: int | None = None
    """How many groups of as many layers, in place of ``every``."""
    copies: int = 1
    """How many layers are added to each group: copies of its last ones, in their order."""
    outputs: list[str] = field(default_factory=list)
    """How the names of the projections into the residual stream end, for families that are not known:
    ``self_attn.o_proj,mlp.down_proj``. Empty: the known ones."""

    def check(self) -> Iterator[str]:
        for name, value in (("every", self.every), ("groups", self.groups), ("copies", self.copies)):
            if value is not None and value < 1:
                yield f"{name} is {value}; it must be at least 1"
        if self.every is not None and self.groups is not None:
            yield f"groups is {self.groups} beside every={self.every}; give one of the two"
        if self.every is not None and 0 < self.every < self.copies:
            yield f"copies is {self.copies}, and a group has {self.every} layers"


@hookimpl
def lmgraft_merge() -> list[Component]:
    return [
        Component(
            name="block_expansion",
            target="lmgraft_block_expansion.expansion:BlockExpansion",
            config=BlockExpansionConfig,
            summary="New layers between the old, identity at the start (LLaMA-Pro)",
        )
    ]
