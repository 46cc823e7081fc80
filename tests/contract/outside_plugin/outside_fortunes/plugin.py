"""What this distribution offers: strings and dataclasses only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lmgraft.component import Component, ComponentConfig, execution
from lmgraft.hookspecs import hookimpl

__all__ = ["FortunesConfig", "ShoutingConfig"]


@dataclass
class FortunesConfig(ComponentConfig):
    """Fortune files."""

    path: str | None = execution(None)
    """A fortune file, or a folder of them; what it holds is in the key by its digest."""

    def ready(self) -> bool:
        return self.path is not None

    def provides(self) -> frozenset[str]:
        return frozenset({"columns:text"})

    def check(self) -> Iterator[str]:
        if self.path == "":
            yield "path is empty; give a fortune file or a folder of them"


@dataclass
class ShoutingConfig(ComponentConfig):
    """Documents written in capitals."""

    share: float = 0.5
    """Largest share of upper-case letters."""

    def check(self) -> Iterator[str]:
        if not 0 < self.share <= 1:
            yield f"share is {self.share}; it must be above 0 and at most 1"


@hookimpl
def lmgraft_data_source() -> list[Component[Any]]:
    return [
        Component(
            name="fortunes",
            target="outside_fortunes.source:Fortunes",
            config=FortunesConfig,
            summary="Fortune files: texts between lines of a single %",
        )
    ]


@hookimpl
def lmgraft_filter() -> list[Component[Any]]:
    return [
        Component(
            name="shouting",
            target="outside_fortunes.shouting:Shouting",
            config=ShoutingConfig,
            summary="Drops documents written in capitals",
        )
    ]
