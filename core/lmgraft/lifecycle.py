"""Tells trackers what happens, each in a thread of its own behind a bounded queue.

A tracker that cannot be set up stops the run before any work, as every selected part does. From then on a tracker never
slows or stops a run: when its queue is full, rows are dropped and counted; when it raises, the failure is reported once
with its distribution's name and the tracker is left alone.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pluggy

from lmgraft import hooks
from lmgraft.errors import LmgraftError, Problem, UserError
from lmgraft.recipe import PartUse
from lmgraft.registry import build

__all__ = ["Lifecycle"]

#: Events that wait for one tracker before rows of metrics are dropped.
QUEUE = 1024
#: Seconds that the end of a run waits for all trackers together.
PATIENCE = 30.0


class _Tracker(threading.Thread):
    """One tracker: its own plugin manager, queue and thread."""

    def __init__(self, part: PartUse, report: Callable[[str], None]) -> None:
        super().__init__(name=f"tracker-{part.config.part}", daemon=True)
        row = part.installed.row
        self.label = f"{part.config.part} of {row.distribution} {row.version}"
        self._report = report
        self._events: queue.Queue[tuple[str, dict[str, Any]] | None] = queue.Queue()
        self._manager = hooks.manager()
        self._register(part)
        self.dropped = 0
        self.failed = False

    def _register(self, part: PartUse) -> None:
        fact = f"{part.path}: the tracker {self.label} cannot be set up"
        remedy = f"mend {part.installed.component.target}, or take {part.path} out of the recipe"
        try:
            tracker = build(part.installed.component, part.config)
            hooks.register(self._manager, tracker, self.label)
        except LmgraftError:
            raise
        except pluggy.PluginValidationError as error:
            raise UserError(Problem(fact, hooks.fault(error), remedy)) from error
        except Exception as error:
            raise UserError(Problem(fact, f"it raised {type(error).__name__}: {error}", remedy)) from error
        if not hooks.heard(self._manager, tracker):
            cause = f"it implements none of {', '.join(hooks.HEARD)}, or marks none @hookimpl"
            raise UserError(Problem(fact, cause, remedy))

    def put(self, hook: str, arguments: dict[str, Any]) -> None:
        # Only rows of metrics come without end. The few other events always get through, the run's end above all.
        if hook == "step" and self._events.qsize() >= QUEUE:
            self.dropped += 1
        else:
            self._events.put((hook, arguments))

    def run(self) -> None:
        while (event := self._events.get()) is not None:
            if self.failed:
                continue
            hook, arguments = event
            try:
                getattr(self._manager.hook, f"lmgraft_{hook}")(**arguments)
            except BaseException as error:  # SystemExit would end this thread without a word
                self.failed = True
                self._report(
                    f"tracker {self.label} failed at {hook} and is left alone: {type(error).__name__}: {error}"
                )

    def finish(self, until: float) -> None:
        """Waits for what is queued until a time of ``time.monotonic()``; says what the tracker was not shown."""
        self._events.put(None)
        self.join(max(until - time.monotonic(), 0))
        if self.is_alive():
            self._report(f"tracker {self.label} did not finish within {PATIENCE:.0f} s")
        if self.dropped:
            self._report(f"tracker {self.label} was too slow; {self.dropped} events were not shown to it")


class Lifecycle:
    """All trackers of a run. Without trackers every call is a no-op."""

    def __init__(self, parts: Sequence[PartUse], report: Callable[[str], None]) -> None:
        self._trackers = [_Tracker(part, report) for part in parts]
        for tracker in self._trackers:
            tracker.start()

    def tell(self, hook: str, **arguments: Any) -> None:
        for tracker in self._trackers:
            tracker.put(hook, arguments)

    def close(self) -> None:
        until = time.monotonic() + PATIENCE
        for tracker in self._trackers:
            tracker.finish(until)
