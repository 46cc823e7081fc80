"""What the disk says, in three lines: full, read-only, not a folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lmgraft.errors import Problem, UserError

__all__ = ["explained"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EROFS, errno.EACCES, errno.EPERM}
_SHAPE = {errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}
_ELSEWHERE = "set store.dir=PATH to keep the store elsewhere"


@contextmanager
def explained(root: Path) -> Iterator[None]:
    """Turns the disk's refusals under ``root`` into a :class:`UserError`; every other error passes unchanged."""
    try:
        yield
    except OSError as error:
        problem = _problem(root, error)
        if problem is None:
            raise
        raise UserError(problem) from error


def _problem(root: Path, error: OSError) -> Problem | None:
    named = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    ours = any(_related(root, name) for name in named)
    why = error.strerror or str(error)
    path = named[0] if named else str(root)
    # A write to an open file names no path; where it ran out of room inside a build, that is the store's disk.
    if error.errno in _FULL and (ours or not named):
        cause = f"the disk, the quota or the limit on file sizes is used up: {why}"
        return Problem(f"the store cannot write {path}", cause, f"free some space (lmgraft store gc), or {_ELSEWHERE}")
    if error.errno in _DENIED and ours:
        cause = f"this user may not write there: {why}"
        return Problem(f"the store cannot write {path}", cause, f"make the folder writable, or {_ELSEWHERE}")
    if error.errno in _SHAPE and ours:
        return Problem(f"the store cannot use {path}", f"it cannot be a folder there: {why}", _ELSEWHERE)
    return None


def _related(root: Path, name: str) -> bool:
    """Is it inside the store, or one of the folders above it that had to be made first?"""
    path = Path(os.path.abspath(name))
    return path.is_relative_to(root) or root.is_relative_to(path)
