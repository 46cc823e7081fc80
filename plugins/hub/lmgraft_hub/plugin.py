"""The light half of ``hub``: its settings and where its class lies."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from lmgraft.component import Component, execution
from lmgraft.errors import Problem
from lmgraft.hookspecs import hookimpl
from lmgraft.rows.kinds import RowsConfig

__all__ = ["COMMIT", "HubConfig", "lmgraft_data_source"]

COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(r"[\w][\w.-]*/[\w][\w.-]*|[\w][\w.-]*")


@dataclass
class HubConfig(RowsConfig):
    """A data set of the Hugging Face hub, streamed and pinned by its commit."""

    source: ClassVar[str] = "hub"

    name: str | None = execution(None)
    """The data set, ``org/name``, or the folder of a downloaded one; null reads nothing. The key holds its commit."""
    config: str | None = None
    """Of a data set that has several configurations (subsets), which; null takes the default."""
    split: str = "train"
    """Which split."""
    revision: str = execution("main")
    """A commit of 40 hex digits; a branch or a tag is resolved to its commit once, when the run begins, and the key
    holds that commit."""

    def ready(self) -> bool:
        return self.name is not None

    def folder(self) -> str | None:
        """The folder that ``name`` is, if it is one."""
        path = os.path.expanduser(self.name or "")
        return os.path.abspath(path) if os.path.isdir(path) else None

    def dataset(self) -> str:
        """``org/name``, for a model card; empty where a folder is read."""
        return "" if self.name is None or self.folder() is not None else self.name

    def check(self) -> Iterator[Problem | str]:
        yield from self.check_rows()
        if self.name is not None and self.folder() is None and not _NAME.fullmatch(self.name):
            yield f"name is {self.name!r}; expected a data set as org/name, or a folder that is there"
        for key in ("split", "revision"):
            if not getattr(self, key):
                yield f"{key} is empty"
        if re.search(r"[\[+%]", self.split):
            yield f"split is {self.split!r}; it names one split, whole: corpus.max_bytes takes a part of it"
        if self.config == "":
            yield "config is empty; it names a configuration, or is null"


@hookimpl
def lmgraft_data_source() -> list[Component[Any]]:
    return [
        Component(
            name="hub",
            target="lmgraft_hub.source:Hub",
            config=HubConfig,
            summary="Data sets of the Hugging Face hub, streamed, pinned by commit",
        )
    ]
