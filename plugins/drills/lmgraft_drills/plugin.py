"""The data source ``drills``: its name and its settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl

__all__ = ["TASKS", "DrillsConfig", "Rows"]

TASKS = (
    "add", "contains", "copy", "element", "last_letter", "larger", "maximum", "reverse", "series", "sort", "spell",
)  # fmt: skip


class Rows(Enum):
    messages = "messages"
    pairs = "pairs"


_COLUMNS = {
    Rows.messages: frozenset({"columns:messages"}),
    Rows.pairs: frozenset({"columns:prompt", "columns:chosen", "columns:rejected"}),
}


@dataclass
class DrillsConfig(ComponentConfig):
    """Small tasks with one right answer each, made from a seed: rows that every machine has."""

    rows: Rows = Rows.messages
    """``messages``: a question and its right answer; ``pairs``: the right answer and a wrong one that looks alike."""
    count: int = 2000
    """Rows made; the same problem may come twice."""
    tasks: list[str] = field(default_factory=lambda: list(TASKS))
    """Which kinds of task, drawn evenly."""
    flawed: float = 0.0
    """Of chats: the share whose answer has one of the flaws that a selection such as ``lima`` is there to find."""
    seed: int = 0
    """Another seed gives other problems, and may repeat some."""

    def provides(self) -> frozenset[str]:
        return _COLUMNS[self.rows]

    def check(self) -> Iterator[str]:
        if self.count < 1:
            yield f"count is {self.count}; it must be at least 1"
        if not self.tasks:
            yield f"tasks is empty; choose among {', '.join(TASKS)}"
        for task in self.tasks:
            if task not in TASKS:
                yield f"tasks names {task!r}; there are {', '.join(TASKS)}"
        if not 0 <= self.flawed <= 1:
            yield f"flawed is {self.flawed}; it is a share, from 0 to 1"


@hookimpl
def lmgraft_data_source() -> list[Component[Any]]:
    return [
        Component(
            name="drills",
            target="lmgraft_drills.source:Drills",
            config=DrillsConfig,
            summary="Generated tasks with one right answer: chats, or right and wrong pairs",
        )
    ]
