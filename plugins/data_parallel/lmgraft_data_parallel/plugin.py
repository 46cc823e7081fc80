"""The parallelism ``single``: one process, one device. Light: nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lmgraft.component import Component, ComponentConfig, execution
from lmgraft.hookspecs import hookimpl
from lmgraft.seams.parallelism import Parallelism

__all__ = ["SingleConfig", "lmgraft_parallelism"]


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
    """Under way."""


@hookimpl
def lmgraft_parallelism() -> list[Component[Parallelism]]:
    return [
        Component(
            name="single",
            target="lmgraft_data_parallel.single:Single",
            config=SingleConfig,
            summary="One process on one device: CPU, CUDA or Apple's MPS",
        ),
        Component(
            name="ddp",
            target="lmgraft_data_parallel.ddp:DDP",
            config=DDPConfig,
            summary="A replica on every rank, gradients summed over them",
        ),
    ]
