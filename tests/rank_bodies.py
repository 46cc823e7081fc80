"""What ranks do in tests: a spawned process imports it, which it cannot do with a test module."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import torch
from lmgraft.errors import Problem, Stopped, UserError
from torch import distributed

__all__ = ["add", "fail", "stop"]


def add(out: Path) -> None:
    total = torch.tensor([float(distributed.get_rank() + 1)])
    distributed.all_reduce(total)
    (out / str(distributed.get_rank())).write_text(f"{total.item()} {torch.get_num_threads()}")


def fail(how: str) -> None:
    distributed.barrier()
    if distributed.get_rank() == 1:
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "refused":
            raise UserError(Problem("fact", "cause", "remedy"))
        raise ValueError("boom")
    distributed.all_reduce(torch.ones(1))  # waits for the one that is gone
    time.sleep(120)


def stop() -> None:
    raise Stopped("saved")
