"""What ranks do in tests: a spawned process imports it, which it cannot do with a test module."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import torch
from lmgraft.errors import LmgraftError, Problem, Stopped, UserError
from lmgraft.training import joining
from torch import distributed

__all__ = ["add", "fail", "job", "stop"]


def add(out: Path) -> None:
    total = torch.tensor([float(distributed.get_rank() + 1)])
    distributed.all_reduce(total)
    (out / str(distributed.get_rank())).write_text(f"{total.item()} {torch.get_num_threads()}")


def fail(how: str) -> None:
    """Rank 1 fails in one of several ways; the others wait for it in a collective, or compute and notice nothing."""
    distributed.barrier()
    if distributed.get_rank() == 1:
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how in ("refused", "unnoticed"):
            raise UserError(Problem("fact", "cause", "remedy"))
        if how == "full":
            raise OSError(errno.ENOSPC, "No space left on device", "/disk/file")
        raise ValueError("boom")
    if how != "unnoticed":
        distributed.all_reduce(torch.ones(1))  # waits for the one that is gone
    time.sleep(120)


def stop() -> None:
    raise Stopped("saved")


def job(how: str, folder: Path) -> None:
    """One process of a joined job: rank 0 leads, the others follow."""
    if joining.rank() > 0:
        sys.exit(joining.follow())
    try:
        with joining.leading():
            joining.prove(folder)
            joining.lead(partial(fail, how), ranks=2, device="cpu", threads=1)
    except (LmgraftError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(9)
