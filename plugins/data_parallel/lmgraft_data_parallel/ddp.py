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
from lmgraft_data_parallel.plugin import DDPConfig
from lmgraft_data_parallel.replicas import Group

__all__ = ["DDP"]

Work = Callable[[Callable[[EnginePlan], Engine]], None]


class DDP:
    """Several processes, one device each."""

    def __init__(self, config: DDPConfig) -> None:
        self._config = config

    def launch(self, work: Work) -> None:
        """Runs ``work`` on every rank: local ones that are started for it, or those of torchrun's job."""
        cuda = torch.cuda.is_available()
        count = self._config.ranks or _usual(cuda)
        if cuda and not joining.joined() and count > torch.cuda.device_count():
            cause = f"this machine has {torch.cuda.device_count()} GPUs, and each rank takes one"
            remedy = f"parallelism.ranks={torch.cuda.device_count()}, or start torchrun on several machines"
            raise UserError(Problem(f"ddp: {count} ranks", cause, remedy))
        ranks.launch(partial(_rank, work), ranks=count, device="cuda" if cuda else "cpu", threads=self._config.threads)


def _usual(cuda: bool) -> int:
    if joining.joined():
        return joining.world()
    return max(1, torch.cuda.device_count()) if cuda else 2


def _rank(work: Work) -> None:
    work(_engine)


def _engine(plan: EnginePlan) -> Engine:
    if plan.device == "mps":
        cause = "Apple's MPS is one device, and torch has no collectives for it"
        raise UserError(Problem("ddp on mps", cause, "parallelism=single, or device=cpu"))
    return SingleEngine(plan, Group(torch.device(plan.device)))
