"""What one process of the corpus stage works with: its own parts, and jobs whose errors can leave the process."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from lmgraft.errors import Fault, LmgraftError, Problem, UserError
from lmgraft.seams.filter import FittedFilter
from lmgraft.stages._corpus_rows import rows

__all__ = ["Hands", "Job", "Lost", "Parts", "Ticket", "Workshop", "guarded", "own_workshop"]

T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

Job = Callable[["Workshop", T], R]
"""A function of a module, called with the worker's own workshop and the task."""
Parts = Mapping[str, Any]
"""``"filters.length"`` -> the component and the config that build it."""


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


def own_workshop(parts: Parts, fits: Mapping[str, Path]) -> Workshop:
    """A worker's workshop. The workers are the parallelism: Arrow takes one thread in each."""
    import pyarrow as pa

    from lmgraft.registry import build

    pa.set_cpu_count(1)
    return Workshop(lambda path: build(*parts[path]), fits)


class Ticket(Protocol[R_co]):
    """A task that somebody else does."""

    def wait(self, seconds: float) -> bool:
        """Waits at most so long; whether it is done."""
        ...

    def result(self) -> R_co:
        """What a task that is done gave. Raises what the job raised, and :class:`Lost` where its worker is gone."""
        ...


class Hands(Protocol):
    """Workers elsewhere. Nothing is started before the first task."""

    def submit(self, job: Job[T, R], task: T) -> Ticket[R]:
        """Hands a task over."""
        ...

    def close(self, *, at_once: bool) -> None:
        """Ends the workers; ``at_once`` in the middle of their tasks."""
        ...


class Lost(Exception):
    """A worker ended without a word."""


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
