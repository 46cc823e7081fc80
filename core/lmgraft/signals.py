"""SIGINT and SIGTERM become a request: the stage at work saves and stops; a second signal stops at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

from lmgraft.errors import Stopped

__all__ = ["StopRequest"]


class StopRequest:
    """Context manager; ``check()`` raises :class:`Stopped` once a signal has come.

    Outside the main thread no signal arrives and nothing is installed.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number

    def check(self) -> None:
        if self.signal is not None:
            name = signal.Signals(self.signal).name
            raise Stopped(f"stopped on {name}; the work so far is saved and the same command goes on from it")
