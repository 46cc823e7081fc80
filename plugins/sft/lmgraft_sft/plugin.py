"""The objective ``sft``: its name and its settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.errors import Problem
from lmgraft.hookspecs import hookimpl

__all__ = ["SFTConfig"]


@dataclass
class SFTConfig(ComponentConfig):
    template: str | None = "solar"
    """How chats are written: ``solar``, ``alpaca``, ``chatml``, or the Jinja source of a template; null takes the one
    that the model's own tokenizer carries."""

    def needs(self) -> frozenset[str]:
        return frozenset({"columns:messages"})

    def provides(self) -> frozenset[str]:
        """A sum over answer tokens: rows may share a sequence."""
        return frozenset({"packable"})

    def check(self) -> Iterator[Problem | str]:
        if self.template is None or "{" in self.template:
            return
        from lmgraft.chat import TEMPLATES

        if self.template not in TEMPLATES:
            yield f"template is {self.template!r}; it is one of {', '.join(TEMPLATES)}, a Jinja source, or null"


@hookimpl
def lmgraft_objective() -> list[Component[Any]]:
    return [
        Component(
            name="sft",
            target="lmgraft_sft.objective:SFT",
            config=SFTConfig,
            summary="Learn the answers of chats, and where they end",
        )
    ]
