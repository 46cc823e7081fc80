"""The parallelism ``megatron``: its settings and what they refuse. Light: nothing heavy is imported here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmgraft.component import Component, ComponentConfig, execution
from lmgraft.errors import Problem
from lmgraft.hookspecs import hookimpl

if TYPE_CHECKING:
    from lmgraft.recipe import Recipe

__all__ = ["MegatronConfig", "lmgraft_parallelism"]


@dataclass
class MegatronConfig(ComponentConfig):
    """Settings of the parallelism ``megatron``."""

    tensor: int = execution(1)
    """Ranks that split every layer's matrices between them."""
    pipeline: int = execution(1)
    """Stages that split the layers between them."""
    ranks: int | None = execution(None)
    """Processes in all; what tensor * pipeline leaves over is data parallel. Null: as many as torchrun or SLURM
    started, else the number of GPUs where that is a multiple of tensor * pipeline, else tensor * pipeline."""
    sequence_parallel: bool = execution(False)
    """Norms and residuals, too, are split over the tensor ranks, along the sequence."""
    distributed_optimizer: bool | None = execution(None)
    """Megatron's own: gradients, float32 weights and moments are split over the data ranks. It takes AdamW alone. Null
    is true on CUDA with several data ranks."""
    transformer_engine: bool | None = execution(None)
    """Layers of Transformer Engine instead of Megatron's own; null takes them on CUDA in bfloat16 where they are
    installed."""
    threads: int | None = execution(None)
    """Processor threads of a tensor operation in each rank; null shares the cores out."""

    def needs(self) -> frozenset[str]:
        return frozenset({"decoder_spec"})

    def size(self, gpus: int = 0) -> int:
        """How many ranks there will be, with ``gpus`` on this machine."""
        if self.ranks is not None:
            return self.ranks
        if (world := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
            return world
        model = self.tensor * self.pipeline
        return gpus if gpus and gpus % model == 0 else model

    def check(self) -> Iterator[str]:
        wrong = [name for name in ("tensor", "pipeline", "ranks", "threads") if _below_one(getattr(self, name))]
        for name in wrong:
            yield f"{name} is {getattr(self, name)}; it must be at least 1"
        model = self.tensor * self.pipeline
        if not wrong and self.ranks is not None and self.ranks % model:
            yield f"ranks ({self.ranks}) is not a multiple of tensor * pipeline ({self.tensor} * {self.pipeline})"

    def check_recipe(self, recipe: Recipe, stage: str) -> Iterator[Problem | str]:
        if list(self.check()):
            return
        from lmgraft_megatron import refusals

        yield from refusals.of_recipe(self, recipe, stage)


def _below_one(value: Any) -> bool:
    return value is not None and value < 1


@hookimpl
def lmgraft_parallelism() -> list[Component[Any]]:
    return [
        Component(
            name="megatron",
            target="lmgraft_megatron.megatron:Megatron",
            config=MegatronConfig,
            summary="Tensor, pipeline, sequence and data parallel by megatron-core",
            api=2,
            requires=("megatron-core>=0.16,<0.17",),
        )
    ]
