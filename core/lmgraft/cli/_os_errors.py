"""Errors of the disk that are the user's to mend, in three lines."""

from __future__ import annotations

import errno

from lmgraft.errors import Problem

__all__ = ["as_problem"]

_REMEDIES = {
    errno.ENOSPC: "free some space (lmgraft store gc), or choose another disk with store.dir=PATH and run.dir=PATH",
    errno.EDQUOT: "free some of your quota, or choose another disk with store.dir=PATH and run.dir=PATH",
    errno.EROFS: "choose a writable place with store.dir=PATH and run.dir=PATH",
    errno.EACCES: "check the permissions, or choose another place with store.dir=PATH and run.dir=PATH",
    errno.EPERM: "check the permissions, or choose another place with store.dir=PATH and run.dir=PATH",
    errno.EFBIG: "the file system takes no file of that size; choose another with store.dir=PATH",
    errno.EMFILE: "raise the limit of open files: ulimit -n 4096",
}


def as_problem(error: OSError) -> Problem | None:
    """None where the error is not one a user can mend."""
    remedy = _REMEDIES.get(error.errno or 0)
    if remedy is None:
        return None
    place = error.filename or "a file"
    return Problem(f"{place} cannot be written", error.strerror or str(error), remedy)
