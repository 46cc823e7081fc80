"""Where this process stands: megatron-core's process groups, made once in a process."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from lmgraft.errors import Fault
from torch import distributed

__all__ = ["Layout", "joined_layout"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes, this rank's place, and the groups it talks to."""

    tensor: int
    pipeline: int
    sequence_parallel: bool
    tensor_rank: int
    stage: int
    """0 .. pipeline - 1."""
    data: tuple[int, int]
    """(rank, size) among the ranks that read different data."""
    device: torch.device
    groups: Any
    """megatron-core's ``ProcessGroupCollection``."""

    @property
    def first(self) -> bool:
        return self.stage == 0

    @property
    def last(self) -> bool:
        return self.stage == self.pipeline - 1

    @property
    def main(self) -> bool:
        return distributed.get_rank() == 0

    @property
    def last_global_rank(self) -> int:
        """The rank of the last stage in this rank's pipeline."""
        return int(distributed.get_process_group_ranks(self.groups.pp)[-1])

    def stage_leader(self, stage: int) -> int:
        """The first tensor-parallel rank of a stage, of data rank 0; Megatron numbers tensor, data, pipeline."""
        return stage * self.tensor * self.data[1]


def joined_layout(tensor: int, pipeline: int, sequence_parallel: bool, device: str) -> Layout:
    """Splits torch.distributed's default group, which must be there, into tensor, data and pipeline groups."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on what is not installed: Apex, Transformer Engine
        from megatron.core import parallel_state, tensor_parallel
        from megatron.core.process_groups_config import ProcessGroupCollection

    if not parallel_state.model_parallel_is_initialized():
        parallel_state.initialize_model_parallel(tensor, pipeline, create_gloo_process_groups=False)
        # Dropout is off in all models here, so no random state has to differ between ranks.
        tensor_parallel.random.initialize_rng_tracker(inference_rng_tracker=True, force_reset=True)
    sizes = (
        parallel_state.get_tensor_model_parallel_world_size(),
        parallel_state.get_pipeline_model_parallel_world_size(),
    )
    if sizes != (tensor, pipeline):
        raise Fault(f"this process is laid out as tensor, pipeline = {sizes}, not ({tensor}, {pipeline})")
    return Layout(
        tensor=tensor,
        pipeline=pipeline,
        sequence_parallel=sequence_parallel and tensor > 1,
        tensor_rank=parallel_state.get_tensor_model_parallel_rank(),
        stage=parallel_state.get_pipeline_model_parallel_rank(),
        data=(parallel_state.get_data_parallel_rank(), parallel_state.get_data_parallel_world_size()),
        device=torch.device("cuda", torch.cuda.current_device()) if device == "cuda" else torch.device("cpu"),
        groups=ProcessGroupCollection.use_mpu_process_groups(),
    )
