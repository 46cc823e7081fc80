"""The part ``ddp``: a replica of the model on every rank, each reading its share of the batch.

The mathematics is that of distributed data parallel training (Li et al. 2020, "PyTorch Distributed", VLDB 13); torch's
own wrapper is not used: it averages gradients, expects every replica to make as many backward passes as the others, and
misses what is not reached through its ``forward``. Here gradients are summed once a step, in buckets.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from lmgraft.errors import Problem, UserError
from lmgraft.seams.parallelism import Engine, EnginePlan
from lmgraft.training import joining, ranks

from lmgraft_data_parallel.engine import SingleEngine
from lmgraft_data_parallel.memory import keep_mapped
from lmgraft_data_parallel.plugin import NO_MPS, DDPConfig
from lmgraft_data_parallel.replicas import Group

__all__ = ["DDP"]

Work = Callable[[Callable[[EnginePlan], Engine]], None]


class DDP:
    """Several processes, one device each."""

    def __init__(self, config: DDPConfig) -> None:
        self._config = config

    def launch(self, work: Work) -> None:
        """Runs ``work`` on every rank: local ones that are started for it, or those of torchrun's job."""
        device = ranks.wanted_device(work) or ("cuda" if torch.cuda.is_available() else "cpu")
        if device == "mps":
            raise UserError(Problem("parallelism ddp on device=mps", NO_MPS, "the parallelism single, or device=cpu"))
        gpus = torch.cuda.device_count() if device == "cuda" else 0
        count = self._config.ranks or _usual(gpus)
        if device == "cuda" and not ranks.joined() and count > gpus:
            cause = f"this machine has {gpus} GPUs, and each rank takes one"
            remedy = f"parallelism.ranks={gpus}, or start torchrun on several machines"
            raise UserError(Problem(f"parallelism ddp: ranks={count}", cause, remedy))
        ranks.launch(partial(_rank, work), ranks=count, device=device, threads=self._config.threads)


def _usual(gpus: int) -> int:
    return joining.world() if ranks.joined() else gpus or 2


def _rank(work: Work) -> None:
    keep_mapped()
    work(_engine)


def _engine(plan: EnginePlan) -> Engine:
    return SingleEngine(plan, Group(torch.device(plan.device)))
