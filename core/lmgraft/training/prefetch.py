"""The next step's microbatches are made while this one computes: one thread beside the loop, one step ahead.

What a step reads does not depend on when it is made, so nothing changes but the waiting. At most two steps are in
memory: the one at work and the one that is being made.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from lmgraft.seams.objective import Batch

__all__ = ["Batches", "Feed", "Prefetch"]


class Batches(Protocol):
    """The loader, as the loop sees it. It is asked from a thread of its own, one step at a time, in order."""

    def tokens(self, step: int) -> int:
        """Tokens of the batch of ``step``, over all ranks."""
        ...

    def microbatches(self, step: int, rank: int, size: int, micro_batch: int | None) -> Sequence[Batch]:
        """The share of data rank ``rank`` of ``size`` in the batch of ``step``, cut to ``micro_batch`` sequences."""
        ...


@dataclass(frozen=True, slots=True)
class Feed:
    """What a step is fed."""

    microbatches: Sequence[Batch]
    tokens: int
    """Of the whole batch, over all ranks."""


class Prefetch:
    """Steps ``0 .. steps - 1`` of a loader for one data rank. A context manager: leaving it ends the thread, which
    reads nothing after that."""

    def __init__(self, loader: Batches, data: tuple[int, int], micro_batch: int | None, steps: int) -> None:
        """``data`` is (rank, size)."""
        self.waited = 0.0
        """Seconds that :meth:`take` has waited, all in all."""
        self._loader, self._data, self._micro_batch, self._steps = loader, data, micro_batch, steps
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lmgraft-loader")
        self._ahead: tuple[int, Future[Feed]] | None = None

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._ahead = None

    def begin(self, step: int) -> None:
        """``step`` is the next that will be asked for; nothing is waited for."""
        self._ahead = (step, self._thread.submit(self._make, step)) if step < self._steps else None

    def take(self, step: int) -> Feed:
        """What ``step`` is fed; the one after it is begun. An error of the loader is raised at the step it is of."""
        if self._ahead is None or self._ahead[0] != step:
            self.begin(step)
        assert self._ahead is not None, "no step after the last is asked for"
        _, made = self._ahead
        begin = time.perf_counter()
        try:
            feed = made.result()
        finally:
            self.waited += time.perf_counter() - begin
            self._ahead = None  # and with it the one hold on a step that is done
        self.begin(step + 1)
        return feed

    def _make(self, step: int) -> Feed:
        rank, size = self._data
        return Feed(self._loader.microbatches(step, rank, size, self._micro_batch), self._loader.tokens(step))
