"""Work that asks nobody whether it may go on, done so that a stop is obeyed all the same.

A trainer of the ``tokenizers`` library merges for minutes in one call: no signal reaches Python meanwhile, not even a
second one. It runs in a thread of its own, and the calling thread goes on asking.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["attended"]

#: Seconds between two questions.
EVERY = 0.2


def attended(work: Callable[[], object], alive: Callable[[], None]) -> None:
    """Does ``work`` while ``alive`` is called again and again; what either raises is raised here.

    Where ``alive`` raises, ``work`` is left to itself: it must touch nothing that matters afterwards. Its thread does
    not keep a process from ending.
    """
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # the library's panics derive from BaseException
            failed.append(error)

    thread = threading.Thread(target=run, name="attended work", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(EVERY)
        alive()
    if failed:
        raise failed[0]
