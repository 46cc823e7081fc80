"""Sees what is written where: an audit hook (PEP 578) over the calls that create or change files."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["stray_writes"]

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: event -> which of its arguments is the path that changes, and which the descriptor of the folder it is relative to
_CHANGES = {
    "os.mkdir": (0, 2),
    "os.rename": (1, 3),
    "os.remove": (0, 1),
    "os.rmdir": (0, 1),
    "os.link": (1, 3),
    "os.symlink": (1, 2),
    "os.truncate": (0, None),
}
_IGNORED = ("/dev/", "/proc/")

_seen: list[str] | None = None
_installed = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is None:
        return
    if event == "open":
        path, mode, flags = (*arguments, None, None)[:3]
        writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool((flags or 0) & _WRITES)
        if writes:
            _note(path)
    elif event in _CHANGES:
        path, folder = _CHANGES[event]
        _note(arguments[path], arguments[folder] if folder is not None else -1)


def _note(path: Any, folder: Any = -1) -> None:
    assert _seen is not None
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if isinstance(path, (str, os.PathLike)):
        _seen.append(os.path.join(_place(folder), os.fspath(path)))


def _place(descriptor: Any) -> str:
    """What a relative path is relative to: ``shutil.rmtree`` holds a folder by its descriptor."""
    if not isinstance(descriptor, int) or descriptor < 0:
        return os.getcwd()
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:  # no Linux: where it is cannot be told, and /proc is passed over
        return "/proc"


@contextmanager
def stray_writes(cwd: Path, allowed: Sequence[Path]) -> Iterator[list[str]]:
    """Runs the block in the empty folder ``cwd``; afterwards the list holds every file that was written there, or
    anywhere but below ``allowed`` and the system's temporary folder. Caches of byte code do not count; other processes
    are seen only through what they leave in ``cwd``.
    """
    global _seen, _installed
    if not _installed:
        sys.addaudithook(_hook)  # it stays for the life of the process, and costs nothing while it has no list
        _installed = True
    cwd, before = cwd.resolve(), Path.cwd()
    places = [place.resolve() for place in (*allowed, Path(tempfile.gettempdir()))]
    found: list[str] = []
    os.chdir(cwd)
    noted: list[str] = []
    _seen = noted
    try:
        yield found
    finally:
        _seen = None
        os.chdir(before)
        stray = {path for path in noted if _is_stray(path, cwd, places)}
        stray |= {str(path) for path in cwd.rglob("*")}
        found += sorted(os.path.relpath(path, cwd) if path.startswith(f"{cwd}{os.sep}") else path for path in stray)


def _is_stray(path: str, cwd: Path, places: Sequence[Path]) -> bool:
    if path.startswith(_IGNORED) or "__pycache__" in path:
        return False
    real = Path(os.path.realpath(path))
    if real.is_relative_to(cwd):
        return True
    return not any(real.is_relative_to(place) for place in places)
