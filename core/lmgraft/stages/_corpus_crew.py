"""Who does the corpus stage's tasks: this process, or a few of its own, each building its parts for itself."""

from __future__ import annotations

import concurrent.futures
import errno
import multiprocessing
import os
import signal
import sys
import threading
import traceback
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from lmgraft.errors import Fault, LmgraftError, Problem, UserError
from lmgraft.seams.filter import FittedFilter
from lmgraft.stages._corpus_rows import rows

__all__ = ["Crew", "Workshop"]

T = TypeVar("T")
R = TypeVar("R")

Job = Callable[["Workshop", T], R]


class Workshop:
    """The parts of one process, built when first asked for.

    ``make`` builds the part at a path such as ``"filters.length"``; ``fits`` holds, for each filter that learns, the
    folder with what it learnt. Long jobs call ``alive`` now and then: in the stage's own process it raises where the
    stage must stop; a worker is simply ended.
    """

    def __init__(
        self, make: Callable[[str], Any], fits: Mapping[str, Path], alive: Callable[[], None] = lambda: None
    ) -> None:
        self.alive = alive
        self._make = make
        self._fits = fits
        self._built: dict[str, Any] = {}

    def source(self, name: str) -> Any:
        return self._get(f"sources.{name}")

    def filter(self, name: str) -> Any:
        return self._get(f"filters.{name}")

    def _get(self, path: str) -> Any:
        if path not in self._built:
            part = self._make(path)
            name = path.removeprefix("filters.")
            if isinstance(part, FittedFilter) and name in self._fits:
                part.fit({role: rows(Path(file)) for role, file in part.inputs().items()}, self._fits[name])
            self._built[path] = part
        return self._built[path]


class Crew:
    """Runs jobs over tasks and yields the results in the tasks' order.

    ``workers`` 1 works in this process. Others are started with ``spawn``: a fork would copy the locks of Arrow's and
    torch's threads. A job is a function of a module, called with the worker's own workshop and the task.
    """

    def __init__(
        self, workshop: Workshop, parts: Mapping[str, Any], fits: Mapping[str, Path], workers: int, stage: str
    ) -> None:
        self.workshop = workshop
        self.workers = workers
        self._parts = dict(parts)
        self._fits = dict(fits)
        self._stage = stage
        self._pool: concurrent.futures.ProcessPoolExecutor | None = None

    def map(self, job: Job[T, R], tasks: Iterable[T]) -> Iterator[R]:
        """Results in order. The workshop's ``alive`` is called between tasks, and every second while waiting."""
        tasks = list(tasks)
        if self.workers == 1 or len(tasks) < 2:
            for task in tasks:
                self.workshop.alive()
                yield guarded(job, self.workshop, task)
            return
        yield from self._spread(job, tasks)

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._pool is None:
            return
        # A stage that fails or stops does not wait for tasks under way: they leave nothing half-done behind.
        workers = list((getattr(self._pool, "_processes", None) or {}).values()) if kind else []
        self._pool.shutdown(wait=not kind, cancel_futures=True)
        for worker in workers:
            worker.terminate()
        self._pool = None

    def _spread(self, job: Job[T, R], tasks: list[T]) -> Iterator[R]:
        window: deque[concurrent.futures.Future[R]] = deque()
        for task in tasks:
            window.append(self._submit(job, task))
            if len(window) > 4 * self.workers:
                yield self._wait(window.popleft())
        while window:
            yield self._wait(window.popleft())

    def _submit(self, job: Job[T, R], task: T) -> concurrent.futures.Future[R]:
        if self._pool is None:
            self._pool = concurrent.futures.ProcessPoolExecutor(
                self.workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_enter,
                initargs=(self._parts, self._fits),
            )
        with _main_hidden():
            return self._pool.submit(_call, job, task)

    def _wait(self, future: concurrent.futures.Future[R]) -> R:
        while not future.done():
            self.workshop.alive()
            concurrent.futures.wait([future], timeout=1)
        try:
            return future.result()
        except BrokenProcessPool as error:
            problem = Problem(
                f"a worker process of {self._stage} ended without a word",
                "the system ended it, most often for want of memory",
                f"{self._stage}.workers=1, or fewer than {self.workers}; finished work is kept",
            )
            raise Fault(str(problem)) from error


def guarded(job: Job[T, R], workshop: Workshop, task: T) -> R:
    """Runs a job; what it raises can cross a process border and tells which task it was."""
    try:
        return job(workshop, task)
    except LmgraftError:
        raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            problem = Problem("the disk is full", str(error), "free some space and start again: finished work is kept")
            raise UserError(problem) from error
        raise Fault(_told(task)) from error
    except Exception as error:
        # A foreign exception may not survive pickling (that would break the whole pool): its traceback goes as text.
        raise Fault(_told(task)) from error


def _told(task: object) -> str:
    return f"{getattr(task, 'what', 'a task')} failed\n{traceback.format_exc()}"


# --- in a worker ------------------------------------------------------------------------------------------------------

_workshop: Workshop | None = None


def _enter(parts: Mapping[str, Any], fits: Mapping[str, Path]) -> None:
    """Sets up a worker process: Ctrl-C is its parent's business, and it never outlives its parent."""
    global _workshop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()

    import pyarrow as pa

    pa.set_cpu_count(1)  # the workers are the parallelism

    from lmgraft.registry import build

    _workshop = Workshop(lambda path: build(*parts[path]), fits)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _call(job: Job[T, R], task: T) -> R:
    assert _workshop is not None
    return guarded(job, _workshop, task)


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Keeps ``spawn`` from running the caller's script again in every worker.

    Workers need nothing of it, and a script without ``if __name__ == "__main__"`` (or one read from standard input)
    would otherwise fail there.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
