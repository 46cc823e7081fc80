"""The filter ``lima``: its name and its settings."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl

__all__ = ["LimaConfig"]


@dataclass
class LimaConfig(ComponentConfig):
    """Selects few chats: good ones by LIMA's rules, and unlike one another."""

    examples: int = 1000
    """Chats that are kept at most."""
    min_chars: int | None = 1200
    """Characters that the answers of a chat have at least; null sets no limit. The paper's limits are for answers of
    Stack Exchange; instruction sets in the style of Alpaca need lower ones."""
    max_chars: int | None = 4096
    """Characters that they have at most."""
    first_person: bool = True
    """Drop chats whose answers are written in the first person (English)."""
    cross_references: bool = True
    """Drop chats whose answers refer to other answers, comments or the site (English)."""
    answer_format: bool = True
    """Drop chats whose answers hold HTML, images or links outside code, or code that is never closed."""
    min_score: float | None = 10.0
    """The least score, where a row has one; null asks for none."""
    score: str = "score"
    """The key of a row that holds its score."""
    quota: int | None = None
    """Chats of one source that are kept at most; null sets no limit."""
    quotas: dict[str, int] = field(default_factory=dict)
    """Sources that have a quota of their own, as in ``{drills: 200, files/a.jsonl: 50}``; 0 takes none."""
    source: str | None = None
    """The key of a row that says where it comes from; null takes the recipe's source and, of files, the file."""
    topic: str | None = None
    """The key of a row that names its topic, over which the selection is spread; null groups prompts by their words."""
    topics: int = 32
    """Groups of prompts that are made where no key names topics."""
    temperature: float = 3.0
    """How evenly topics share the selection: each gets a share as its size to the power of 1 over this."""
    seed: int = 0
    """Decides among chats that nothing else decides between."""

    def needs(self) -> frozenset[str]:
        return frozenset({"columns:messages"})

    def check(self) -> Iterator[str]:
        for name in ("examples", "topics"):
            if getattr(self, name) < 1:
                yield f"{name} is {getattr(self, name)}; it must be at least 1"
        for name in ("min_chars", "max_chars", "quota"):
            value = getattr(self, name)
            if value is not None and value < 1:
                yield f"{name} is {value}; it must be at least 1, or null for no limit"
        if self.min_chars is not None and self.max_chars is not None and self.min_chars > self.max_chars:
            yield f"min_chars is {self.min_chars}, above max_chars, {self.max_chars}: no answer has both"
        for name, value in self.quotas.items():
            if value < 0:
                yield f"quotas.{name} is {value}; it must be at least 0"
        if self.topics > 4096:
            yield f"topics is {self.topics}; it must be at most 4096"
        if self.min_score is not None and math.isnan(self.min_score):
            yield "min_score is no number; null asks for none"
        if not self.temperature >= 0.1:  # nan is no temperature either
            yield f"temperature is {self.temperature}; it must be at least 0.1 (1 keeps the topics' own sizes)"
        for name in ("source", "topic", "score"):
            if getattr(self, name) == "":
                yield f"{name} is empty; it names a key of the rows"


@hookimpl
def lmgraft_filter() -> list[Component[Any]]:
    return [
        Component(
            name="lima",
            target="lmgraft_lima.lima:Lima",
            config=LimaConfig,
            summary="Few chats for tuning: LIMA's rules, and as diverse as can be",
        )
    ]
