"""Processes that are spawned: what they must not do on their way up."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["main_hidden"]


@contextmanager
def main_hidden() -> Iterator[None]:
    """Keeps ``spawn`` from running the caller's script again in every process that it starts.

    Our processes need nothing of it, and a script without ``if __name__ == "__main__"`` (or one read from standard
    input) would otherwise fail there.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
