"""The part: runs the work in place and makes an engine for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from lmgraft.seams.parallelism import Engine, EnginePlan

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
        with _settings(self._config.threads):
            work(SingleEngine)


@contextmanager
def _settings(threads: int | None) -> Iterator[None]:
    """Deterministic kernels wherever torch has them, and a fixed number of threads.

    Torch's further habit of filling fresh memory with NaN under deterministic algorithms finds bugs and costs time; a
    module that reads what it never wrote is not ours to find here.
    """
    before = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
    )
    if threads is not None:
        torch.set_num_threads(threads)
    keep_mapped()
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1], warn_only=before[2])
        torch.utils.deterministic.fill_uninitialized_memory = before[3]  # type: ignore[attr-defined]
