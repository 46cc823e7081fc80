"""Who does the corpus stage's tasks: this process, or workers that each build the parts for themselves.

Whoever does them, the results come in the tasks' order and the same: what a task gives depends on the task alone.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

from lmgraft.errors import Fault, Problem
from lmgraft.stages._corpus_workshop import Hands, Job, Lost, Parts, Ticket, Workshop, guarded
from lmgraft.stages.executors import Executor

__all__ = ["Crew", "Workshop"]

T = TypeVar("T")
R = TypeVar("R")

IN_FLIGHT = 4
"""Tasks that are handed out for each worker: results wait in memory for those before them."""


class Crew:
    """Runs jobs over tasks and yields the results in the tasks' order.

    The first ``patience`` seconds of work are done in this process; where more is left then, workers are started for
    it. One worker is this process itself, unless it is Ray's. ``scratch`` is a folder that all workers must see.
    """

    def __init__(
        self,
        workshop: Workshop,
        parts: Parts,
        fits: Mapping[str, Path],
        workers: int,
        stage: str,
        *,
        executor: Executor = Executor.processes,
        scratch: Path | None = None,
        patience: float = 0.0,
    ) -> None:
        self.workshop = workshop
        self.workers = workers
        self._parts = dict(parts)
        self._fits = dict(fits)
        self._stage = stage
        self._executor = executor
        self._scratch = scratch
        self._patience = patience
        self._worked = 0.0
        """Seconds of work done in this process."""
        self._hands: Hands | None = None

    def map(self, job: Job[T, R], tasks: Iterable[T], most: int | None = None) -> Iterator[R]:
        """Results in order, at most ``most`` tasks at a time. The workshop's ``alive`` is called between tasks, and
        every second while waiting."""
        rest = iter(tasks)
        coming = deque(islice(rest, 2))
        while coming:
            if len(coming) > 1 and most != 1 and self._spreads():
                yield from self._spread(job, chain(coming, rest), min(most or 1 << 30, IN_FLIGHT * self.workers))
                return
            self.workshop.alive()
            started = time.monotonic()
            result = guarded(job, self.workshop, coming.popleft())
            self._worked += time.monotonic() - started
            yield result
            coming.extend(islice(rest, 1))

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._hands is not None:
            # A stage that fails or stops does not wait for tasks under way: they leave nothing half-done behind.
            self._hands.close(at_once=kind is not None)
            self._hands = None

    def _spreads(self) -> bool:
        if self._executor is Executor.ray:
            return True
        return self.workers > 1 and self._worked >= self._patience

    def _spread(self, job: Job[T, R], tasks: Iterable[T], most: int) -> Iterator[R]:
        if self._hands is None:
            self._hands = self._hire()
        window: deque[Ticket[R]] = deque()
        for task in tasks:
            if len(window) >= most:
                yield self._wait(window.popleft())
            window.append(self._hands.submit(job, task))
        while window:
            yield self._wait(window.popleft())

    def _hire(self) -> Hands:
        if self._executor is Executor.ray:
            from lmgraft.stages._corpus_ray import RayHands

            return RayHands(self._parts, self._fits, self.workers, self._stage, self._scratch, self.workshop.alive)
        from lmgraft.stages._corpus_processes import ProcessHands

        return ProcessHands(self._parts, self._fits, self.workers)

    def _wait(self, ticket: Ticket[R]) -> R:
        self.workshop.alive()
        while not ticket.wait(1.0):
            self.workshop.alive()
        try:
            return ticket.result()
        except Lost as error:
            problem = Problem(
                f"a worker process of {self._stage} ended without a word",
                "the system ended it, most often for want of memory",
                f"{self._stage}.workers=1, or fewer than {self.workers}; finished work is kept",
            )
            raise Fault(str(problem)) from error
