"""The part: runs the work in place and makes an engine for it."""

from __future__ import annotations

from collections.abc import Callable

from lmgraft.seams.parallelism import Engine, EnginePlan
from lmgraft.training.settings import repeatable

from lmgraft_data_parallel.engine import SingleEngine
from lmgraft_data_parallel.memory import keep_mapped
from lmgraft_data_parallel.plugin import SingleConfig

__all__ = ["Single"]


class Single:
    """One process, one device."""

    def __init__(self, config: SingleConfig) -> None:
        self._config = config

    def launch(self, work: Callable[[Callable[[EnginePlan], Engine]], None]) -> None:
        """Calls ``work`` in this process; its errors pass through. Torch's settings are put back afterwards."""
        keep_mapped()
        with repeatable(self._config.threads):
            work(SingleEngine)
