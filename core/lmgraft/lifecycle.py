"""Tells trackers what happens, each in a thread of its own behind a bounded queue.

A tracker never slows or stops a run: when its queue is full, rows are dropped and counted; when it raises, the failure
is reported once with its distribution's name and the tracker is left alone from then on.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pluggy

from lmgraft import hookspecs
from lmgraft.recipe import PartUse
from lmgraft.registry import build

__all__ = ["Lifecycle"]

#: Events that wait for one tracker at most.
QUEUE = 1024
#: Seconds that the end of a run waits for a tracker to finish.
PATIENCE = 30.0


class _Tracker(threading.Thread):
    """One tracker: its own plugin manager, queue and thread."""

    def __init__(self, part: PartUse, report: Callable[[str], None]) -> None:
        super().__init__(name=f"tracker-{part.config.part}", daemon=True)
        row = part.installed.row
        self.label = f"{part.config.part} of {row.distribution} {row.version}"
        self._report = report
        self._events: queue.Queue[tuple[str, dict[str, Any]] | None] = queue.Queue(QUEUE)
        self._manager = pluggy.PluginManager("lmgraft")
        self._manager.add_hookspecs(hookspecs)
        self._manager.register(build(part.installed.component, part.config), name=self.label)
        self._manager.check_pending()
        self.dropped = 0
        self.failed = False

    def put(self, hook: str, arguments: dict[str, Any]) -> None:
        try:
            self._events.put_nowait((hook, arguments))
        except queue.Full:
            self.dropped += 1

    def run(self) -> None:
        while (event := self._events.get()) is not None:
            if self.failed:
                continue
            hook, arguments = event
            try:
                getattr(self._manager.hook, f"lmgraft_{hook}")(**arguments)
            except Exception as error:
                self.failed = True
                self._report(
                    f"tracker {self.label} failed at {hook} and is left alone: {type(error).__name__}: {error}"
                )

    def finish(self) -> None:
        try:
            self._events.put(None, timeout=PATIENCE)
        except queue.Full:
            self._report(f"tracker {self.label} did not finish within {PATIENCE:.0f} s")
            return
        self.join(PATIENCE)
        if self.is_alive():
            self._report(f"tracker {self.label} did not finish within {PATIENCE:.0f} s")
        elif self.dropped:
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
        for tracker in self._trackers:
            tracker.finish()
