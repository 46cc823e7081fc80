"""Who does a corpus stage's work: the setting ``executor``, and what it needs to be there."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from importlib.util import find_spec

from lmgraft.errors import Problem

__all__ = ["Executor", "missing"]


class Executor(Enum):
    """Who does a corpus stage's work. What comes out does not depend on it."""

    processes = "processes"
    """Processes of this machine."""
    ray = "ray"
    """Actors of Ray: of the cluster at ``RAY_ADDRESS`` or of one that runs here, or else of a Ray of this machine
    alone. All machines of a cluster must see ``store.dir`` and the sources' files."""


def missing(executor: Executor, stage: str) -> Iterator[Problem]:
    """What is not installed of what an executor needs."""
    if executor is Executor.ray and find_spec("ray") is None:
        yield Problem(f"{stage}.executor=ray", "Ray is not installed here", "pip install 'lmgraft[ray]'")
