"""Signs of life of the ranks of a joined job, over the job's own store.

Every rank writes a number now and then. A rank whose number stands still is gone: killed, or on a machine that is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

__all__ = ["SILENCE", "Pulse", "beating"]

#: Seconds between two beats.
BEAT = 1.0
#: Seconds without a beat after which a rank counts as gone. Long: a process that loads a large library may hold
#: Python's lock for a while. Where a rank was lost for certain, ``Pulse.stopped`` tells sooner which one it was.
SILENCE = 60.0


def beating(store: Any, rank: int, ended: threading.Event) -> None:
    """Beats until ``ended``; for a thread and a connection of its own, since one that waits blocks its connection."""
    store.set(f"beat/{rank}", "0")  # at once: others read it without waiting
    thread = threading.Thread(target=_beat, args=(store, rank, ended), name="lmgraft-heartbeat", daemon=True)
    thread.start()


def _beat(store: Any, rank: int, ended: threading.Event) -> None:
    number = 0
    while not ended.wait(BEAT):
        number += 1
        try:
            store.set(f"beat/{rank}", str(number))
        except RuntimeError:  # the store is gone, and with it the job: whoever waits will notice
            return


class Pulse:
    """Listens to some ranks."""

    def __init__(self, store: Any, ranks: Iterable[int]) -> None:
        self._store = store
        self._ranks = tuple(ranks)
        self._last = self._beats()
        self._seen = dict.fromkeys(self._ranks, time.monotonic())

    def silent(self) -> list[int]:
        """Ranks that were not heard for too long."""
        now, beats = time.monotonic(), self._beats()
        for rank in self._ranks:
            if beats[rank] != self._last[rank]:
                self._last[rank], self._seen[rank] = beats[rank], now
        return [rank for rank in self._ranks if now - self._seen[rank] > SILENCE]

    def stopped(self) -> list[int]:
        """Ranks that do not beat within three beats; takes that long."""
        before = self._beats()
        deadline = time.monotonic() + 3 * BEAT
        still = list(self._ranks)
        while still and time.monotonic() < deadline:
            time.sleep(BEAT / 4)
            now = self._beats()
            still = [rank for rank in still if now[rank] == before[rank]]
        return still

    def _beats(self) -> dict[int, bytes]:
        names = [f"beat/{rank}" for rank in self._ranks]
        return dict(zip(self._ranks, self._store.multi_get(names), strict=True)) if names else {}
