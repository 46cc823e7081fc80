"""The layouts ``single`` and ``ddp``: one replica of the model, or one on every rank. Nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmgraft.component import Component, ComponentConfig, execution
from lmgraft.errors import Problem
from lmgraft.hookspecs import hookimpl
from lmgraft.seams.parallelism import Parallelism

if TYPE_CHECKING:
    from lmgraft.recipe import Recipe

__all__ = ["NO_MPS", "DDPConfig", "SingleConfig", "lmgraft_parallelism"]

NO_MPS = "Apple's MPS is one device, and torch has no collectives for it"


@dataclass
class SingleConfig(ComponentConfig):
    """Settings of the parallelism ``single``."""

    threads: int | None = execution(None)
    """Processor threads of a tensor operation; null leaves torch's own choice (OMP_NUM_THREADS, or all cores). Two
    runs are bit-equal under one number of threads, and differ in last digits under two."""

    def check(self) -> Iterator[str]:
        if self.threads is not None and self.threads < 1:
            yield f"threads is {self.threads}; it must be at least 1, or null for torch's own choice"


@dataclass
class DDPConfig(ComponentConfig):
    """Settings of the parallelism ``ddp``."""

    ranks: int | None = execution(None)
    """Replicas; null takes one for each GPU, all processes of a torchrun job, or 2 on processors."""
    threads: int | None = execution(None)
    """Processor threads of a tensor operation in each rank; null shares the cores out."""

    def check(self) -> Iterator[str]:
        if self.ranks is not None and self.ranks < 1:
            yield f"ranks is {self.ranks}; it must be at least 1, or null"
        if self.threads is not None and self.threads < 1:
            yield f"threads is {self.threads}; it must be at least 1, or null"

    def check_recipe(self, recipe: Recipe, stage: str) -> Iterator[Problem | str]:
        batch = getattr(recipe.stage(stage).config, "batch", None)
        ranks = self.ranks or (2 if recipe.device == "cpu" else 1)
        if isinstance(batch, int) and batch < ranks:
            yield Problem(
                f"{stage}.batch={batch} is less than the {ranks} ranks of parallelism ddp",
                "every rank reads its share of the batch, and some would read nothing",
                f"{stage}.batch={ranks} or more, fewer ranks, or the parallelism single",
            )
        if recipe.device == "mps":
            yield Problem(f"parallelism ddp of {stage} on device=mps", NO_MPS, "the parallelism single, or device=cpu")


@hookimpl
def lmgraft_parallelism() -> list[Component[Parallelism]]:
    return [
        Component(
            name="single",
            target="lmgraft_data_parallel.single:Single",
            config=SingleConfig,
            summary="One process on one device: CPU, CUDA or Apple's MPS",
            api=2,
        ),
        Component(
            name="ddp",
            target="lmgraft_data_parallel.ddp:DDP",
            config=DDPConfig,
            summary="A replica on every rank, gradients summed over them",
            api=2,
        ),
    ]
