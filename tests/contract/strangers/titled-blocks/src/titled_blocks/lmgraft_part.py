"""What lmgraft reads when a recipe names ``titled_blocks``: the settings, and where the reader lies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lmgraft.component import Component, ComponentConfig, execution
from lmgraft.hookspecs import hookimpl


@dataclass
class TitledBlocksConfig(ComponentConfig):
    path: str | None = execution(None)
    """A folder, read with all below it, or one file; null reads nothing."""

    suffix: str = ".blocks"
    """Files of a folder with this ending are read."""

    require: list[str] = field(default_factory=list)
    """Headers that every block must have beside Title; a block without one is an error."""

    def provides(self) -> frozenset[str]:
        return frozenset({"columns:text"})

    def ready(self) -> bool:
        return self.path is not None

    def check(self) -> Iterator[str]:
        if not self.suffix.startswith("."):
            yield f"suffix is {self.suffix!r}; it begins with a dot, as in .blocks"
        for number, name in enumerate(self.require):
            if not name or ":" in name:
                yield f"require holds {name!r} at place {number}; a header's name is not empty and holds no colon"


@hookimpl
def lmgraft_data_source() -> list[Component[Any]]:
    return [
        Component(
            name="titled_blocks",
            target="titled_blocks.reader:TitledBlocks",
            config=TitledBlocksConfig,
            summary="Local .blocks files: texts under Title: headers",
        )
    ]
