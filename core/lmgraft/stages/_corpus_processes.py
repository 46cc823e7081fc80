"""Workers of the corpus stage as processes of this machine.

They are started with ``spawn``: a fork would copy the locks of Arrow's and torch's threads.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from lmgraft.stages._corpus_workshop import Job, Lost, Parts, Workshop, guarded, own_workshop

__all__ = ["ProcessHands"]

T = TypeVar("T")
R = TypeVar("R")


class ProcessHands:
    """A pool of processes. Implements :class:`lmgraft.stages._corpus_workshop.Hands`."""

    def __init__(self, parts: Parts, fits: Mapping[str, Path], workers: int) -> None:
        self._pool = concurrent.futures.ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_enter,
            initargs=(dict(parts), dict(fits)),
        )

    def submit(self, job: Job[T, R], task: T) -> _Future[R]:
        with _main_hidden():
            try:
                return _Future(self._pool.submit(_call, job, task))
            except BrokenProcessPool as error:  # known only now: an earlier task's worker is gone
                broken: concurrent.futures.Future[R] = concurrent.futures.Future()
                broken.set_exception(error)
                return _Future(broken)

    def close(self, *, at_once: bool) -> None:
        workers = list((getattr(self._pool, "_processes", None) or {}).values()) if at_once else []
        self._pool.shutdown(wait=not at_once, cancel_futures=True)
        for worker in workers:
            worker.terminate()


class _Future(Generic[R]):
    def __init__(self, future: concurrent.futures.Future[R]) -> None:
        self._future = future

    def wait(self, seconds: float) -> bool:
        concurrent.futures.wait([self._future], timeout=seconds)
        return self._future.done()

    def result(self) -> R:
        try:
            return self._future.result()
        except BrokenProcessPool as error:
            raise Lost from error


# --- in a worker ------------------------------------------------------------------------------------------------------

_workshop: Workshop | None = None


def _enter(parts: Parts, fits: Mapping[str, Path]) -> None:
    """Sets up a worker process: Ctrl-C is its parent's business, and it never outlives its parent."""
    global _workshop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _workshop = own_workshop(parts, fits)


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
