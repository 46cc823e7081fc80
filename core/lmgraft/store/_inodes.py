"""Gives files new inodes, so that a process that still holds them open can no longer change them.

Renaming a folder cuts off writers by path, not writers with an open file: the workers that a killed process left
behind, or a process that was paused so long that another took its stage over.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lmgraft.store._files import files_under, nonce

__all__ = ["cut_off", "renew"]

_PROC = Path("/proc")


def renew(path: Path, scratch: Path) -> None:
    """Replaces a file by a copy of itself: the same name and content, another inode.

    ``scratch``: where the copy is written, so that a crash leaves no half-written file beside the good ones.
    """
    temporary = scratch / f".{nonce()}.tmp"
    shutil.copy2(path, temporary)
    os.replace(temporary, path)


def cut_off(folder: Path, *, local: bool) -> None:
    """Cuts the open files under ``folder`` off from whoever holds them.

    ``local``: every possible holder runs in this machine's process table, which says what is open; otherwise every
    file is copied, one at a time.
    """
    opened = _opened(os.path.realpath(folder)) if local else None
    if opened is not None and not opened:
        return
    for path in list(files_under(folder)):
        if path.is_file() and not path.is_symlink() and (opened is None or os.path.realpath(path) in opened):
            renew(path, folder)


def _opened(folder: str) -> set[str] | None:
    """The files under ``folder`` that any process holds open or mapped; None where the system does not tell."""
    if not (_PROC / "self" / "fd").is_dir():
        return None
    found: set[str] = set()
    for process in os.listdir(_PROC):
        if process.isdigit():
            found.update(path for path in _held(_PROC / process) if path.startswith(folder + os.sep))
    return found


def _held(process: Path) -> list[str]:
    held: list[str] = []
    # Processes end while one looks, and those of other users do not show their files.
    try:
        for entry in os.listdir(process / "fd"):
            held.append(_target(process / "fd" / entry))
        for line in (process / "maps").read_text(errors="surrogateescape").splitlines():
            held.append(line.split(maxsplit=5)[-1])
    except OSError:
        pass
    return held


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""
