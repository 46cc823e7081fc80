"""Folders listed in another order, and units listed by another process: what other machines do to a source."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lmgraft.component import Component, ComponentConfig

__all__ = ["reversed_order", "units_elsewhere"]

# A worker is another process; hash randomisation makes the order of sets another one there.
_ELSEWHERE = """
import json, pickle, sys
from lmgraft.registry import build
part, config, out = pickle.load(sys.stdin.buffer)
units = build(part, config).units()
with open(out, "w") as file:
    json.dump([[unit.id, unit.path, unit.digest, unit.start, unit.end, unit.size] for unit in units], file)
"""


class _Entries:
    """What ``os.scandir`` gives, turned round."""

    def __init__(self, entries: Any) -> None:
        with entries:
            self._entries = iter(list(entries)[::-1])

    def __iter__(self) -> _Entries:
        return self

    def __next__(self) -> os.DirEntry[str]:
        entry: os.DirEntry[str] = next(self._entries)
        return entry

    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def close(self) -> None:
        self._entries = iter(())


@contextmanager
def reversed_order() -> Iterator[None]:
    """Inside the block, ``os.listdir`` and ``os.scandir``, and with them glob, walk and pathlib, list backwards. File
    systems promise no order."""
    listdir, scandir = os.listdir, os.scandir
    os.listdir = lambda *given: listdir(*given)[::-1]  # type: ignore[assignment]
    os.scandir = lambda *given: _Entries(scandir(*given))  # type: ignore[assignment]
    try:
        yield
    finally:
        os.listdir, os.scandir = listdir, scandir


def units_elsewhere(part: Component[Any], config: ComponentConfig, folder: Path) -> list[Any] | str:
    """The units as lists of their fields, from a fresh process; or the last line of what went wrong there."""
    out = folder / "units.json"
    env = {**os.environ, "PYTHONHASHSEED": "4242", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    sent = pickle.dumps((part, config, str(out)))
    done = subprocess.run([sys.executable, "-c", _ELSEWHERE], input=sent, env=env, capture_output=True)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        return said[-1] if said else f"exit code {done.returncode}"
    found: list[Any] = json.loads(out.read_text(encoding="utf-8"))
    return found
