"""Progress of a pass over the corpus: bytes, documents, and documents per second; and of the reading of a spool."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyarrow as pa

from lmgraft.seams.stage import Progress, StageContext
from lmgraft.spool import SortedRuns

__all__ = ["Meter", "Watched", "metered"]


class Meter:
    """What a pass has done so far. Documents per second are of those done now, not of what an earlier run left."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._started = time.monotonic()
        self._documents = 0
        self._now = 0

    def add(self, size: int, documents: int, *, before: bool = False) -> None:
        """A task is done; ``before``: by an earlier run."""
        self._documents += documents
        self._now += 0 if before else documents
        seconds = time.monotonic() - self._started
        # A tenth of a second says nothing of the speed.
        speed = {"documents/s": round(self._now / seconds)} if self._now and seconds > 0.1 else {}
        self._bar.advance(size, documents=self._documents, **speed)


@contextmanager
def metered(context: StageContext, title: str, total: int) -> Iterator[Meter]:
    """A bar of ``total`` bytes."""
    with context.progress(title, total or None, "B") as bar:
        yield Meter(bar)


class Watched:
    """A sorted spool that shows how far a filter has read in it; a :class:`lmgraft.seams.filter.SortedSpool`."""

    def __init__(self, spool: SortedRuns, bar: Progress, alive: Callable[[], None]) -> None:
        self.rows = spool.rows
        self._spool, self._bar, self._alive = spool, bar, alive
        self._readings = 0

    def batches(self) -> Iterator[pa.RecordBatch]:
        self._readings += 1
        self._bar.total(self._readings * self.rows)
        for batch in self._spool.batches():
            self._alive()
            yield batch
            self._bar.advance(batch.num_rows)
