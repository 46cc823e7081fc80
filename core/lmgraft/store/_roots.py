"""Which run uses which keys: what the garbage collector must not take."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lmgraft.store._files import names, read_json, write_json
from lmgraft.store._layout import Layout

__all__ = ["Root", "register", "roots"]


@dataclass(frozen=True, slots=True)
class Root:
    """A run directory and the keys that it uses."""

    file: Path
    run_dir: Path
    keys: frozenset[str]
    registered: float
    """Seconds since the epoch."""

    def stands(self, grace: float) -> bool:
        """Is the run still there? One that has just begun has no run.json yet."""
        return time.time() - self.registered < grace or _there(self.run_dir / "run.json")


def register(layout: Layout, run_dir: Path, keys: Iterable[str]) -> None:
    """Adds keys to those that a run uses."""
    path = Path(os.path.abspath(run_dir))
    file = layout.roots / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.json"
    known = _read(file)
    both = sorted({*keys, *(known.keys if known else ())})
    write_json(file, {"run_dir": str(path), "keys": both, "registered": time.time()})


def roots(layout: Layout) -> list[Root]:
    files = [layout.roots / name for name in names(layout.roots) if name.endswith(".json") and name[0] != "."]
    return [root for root in map(_read, files) if root is not None]


def _read(file: Path) -> Root | None:
    try:
        value = read_json(file)
        return Root(file, Path(value["run_dir"]), frozenset(value["keys"]), float(value["registered"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _there(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # a folder that this user may not enter, a file server that does not answer: not gone
        return True
    return True
