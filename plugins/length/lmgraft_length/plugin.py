"""The light half of ``length``: its settings and where its class lies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl

__all__ = ["LengthConfig", "lmgraft_filter"]


@dataclass
class LengthConfig(ComponentConfig):
    """Limits, both ends included; null sets none."""

    min_chars: int | None = None
    """Fewest characters (Unicode code points)."""
    max_chars: int | None = None
    """Most characters."""
    min_words: int | None = None
    """Fewest words: what white space separates."""
    max_words: int | None = None
    """Most words."""
    min_answer_chars: int | None = None
    """Of chats and preference pairs: fewest characters of each answer, white space at its ends apart."""

    def check(self) -> Iterator[str]:
        for unit in ("chars", "words"):
            low, high = getattr(self, f"min_{unit}"), getattr(self, f"max_{unit}")
            for name, value in ((f"min_{unit}", low), (f"max_{unit}", high)):
                if value is not None and value < 0:
                    yield f"{name} is {value}; it counts {unit} and cannot be negative"
            if low is not None and high is not None and low > high:
                yield f"min_{unit} is {low} and max_{unit} is {high}; nothing is that long and that short"
        if self.min_answer_chars is not None and self.min_answer_chars < 0:
            yield f"min_answer_chars is {self.min_answer_chars}; it counts chars and cannot be negative"


@hookimpl
def lmgraft_filter() -> list[Component[Any]]:
    return [
        Component(
            name="length",
            target="lmgraft_length.length:Length",
            config=LengthConfig,
            summary="Drops documents, or rows whose answers, are too short or too long",
        )
    ]
