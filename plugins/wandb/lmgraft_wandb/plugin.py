"""The tracker ``wandb``: its name and its settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.errors import Problem
from lmgraft.hookspecs import hookimpl

__all__ = ["Mode", "WandbConfig"]


class Mode(Enum):
    auto = "auto"
    online = "online"
    offline = "offline"


@dataclass
class WandbConfig(ComponentConfig):
    """Shows a run at Weights & Biases, or keeps it in the run directory for ``wandb sync``."""

    project: str = "lmgraft"
    """The project that the run is shown in."""
    entity: str | None = None
    """The user or team; null takes the key's own."""
    name: str | None = None
    """Null takes the recipe's name and the run directory's."""
    group: str | None = None
    """Null takes the folder of the sweep, where the run is a job of one."""
    tags: list[str] = field(default_factory=list)
    """Words to find the run by, each of 1 to 64 characters."""
    mode: Mode = Mode.auto
    """``auto``: as WANDB_MODE says, otherwise online where there is a key, otherwise offline. Nothing is asked for."""
    patience: float = 20.0
    """Seconds that wandb may take to begin, and again to end. Training waits for neither; the end of a run does."""
    system: bool = True
    """Let wandb watch processors and memory too, every 15 seconds from a process of its own."""

    def check(self) -> Iterator[Problem | str]:
        if not self.project.strip():
            yield "project is empty; a run of wandb belongs to one"
        if not 1 <= self.patience <= 25:
            # Core gives all trackers together 30 seconds at the end of a run.
            yield f"patience is {self.patience:g}; it must be at least 1 second and at most 25"
        # wandb's own limit, which it would tell of only when the run is under way.
        yield from (f"tags holds {tag!r}; a tag has 1 to 64 characters" for tag in self.tags if not 1 <= len(tag) <= 64)
        if self.mode is Mode.online and not key():
            fact = "lifecycle.wandb.mode is online and there is no key"
            remedy = "run `wandb login`, or set lifecycle.wandb.mode=auto"
            yield Problem(fact, "WANDB_API_KEY is not set, and `wandb login` has left none", remedy)


def key() -> bool:
    """Whether wandb would find a key without asking: in the environment, or where ``wandb login`` keeps it."""
    import netrc
    from pathlib import Path
    from urllib.parse import urlparse

    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    named = os.environ.get("NETRC")
    places = [Path(named)] if named else [Path("~/.netrc").expanduser(), Path("~/_netrc").expanduser()]
    for place in places:
        try:
            if netrc.netrc(str(place)).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


@hookimpl
def lmgraft_lifecycle() -> list[Component[Any]]:
    # wandb is no requirement of the component: where it is missing, a run goes on without it.
    return [
        Component(
            name="wandb",
            target="lmgraft_wandb.tracker:Tracker",
            config=WandbConfig,
            summary="Shows runs at Weights & Biases, or keeps them for wandb sync",
            api=2,
        )
    ]
