"""Megatron's distributed optimizer: gradients, float32 weights and moments split over the data ranks (ZeRO's first
stage, Rajbhandari et al. 2020, arXiv:1910.02054), around the plan's own AdamW.

Megatron cuts each of its parameters into flat ranges, one a data rank. Whole parameters are put together again from
those ranges when canonical tensors are asked for, and cut again when they come back.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from lmgraft.errors import Problem, UserError
from lmgraft.seams.parallelism import EnginePlan
from torch import distributed, nn

from lmgraft_megatron.layout import Layout
from lmgraft_megatron.masters import Held, placed
from lmgraft_megatron.shards import Shard

__all__ = ["Distributed"]


class Distributed:
    """This rank's weights, split over the data ranks; the same methods as :class:`lmgraft_megatron.masters.Masters`."""

    def __init__(self, shards: Sequence[Shard], layout: Layout, plan: EnginePlan, model: Any) -> None:
        from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig

        self._layout = layout
        self._shards = list(shards)
        self._of: dict[nn.Parameter, list[Shard]] = {}
        for shard in self._shards:
            self._of.setdefault(shard.parameter, []).append(shard)
        settings = DistributedDataParallelConfig(grad_reduce_in_fp32=True, use_distributed_optimizer=True)
        self._wrapped = DistributedDataParallel(model.config, settings, model)
        self._wrapped.zero_grad_buffer()
        self._optimizer = self._distributed(plan, model.config)

    def _distributed(self, plan: EnginePlan, config: Any) -> Any:
        from megatron.core import parallel_state
        from megatron.core.optimizer import OptimizerConfig
        from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer

        assert plan.optimizer is not None, "asked only where there is one"
        # A fused matrix has the role of its first tensor: queries, keys and values are treated alike, gate and up too.
        roles = plan.architecture.role
        inner = plan.optimizer.build([(of[0].name, parameter, roles(of[0].name)) for parameter, of in self._of.items()])
        if not isinstance(inner, torch.optim.AdamW):
            cause = f"it splits AdamW's state only, and the recipe's optimizer is {type(inner).__name__}"
            remedy = "parallelism.distributed_optimizer=false, or optimizer adamw"
            raise UserError(Problem("megatron's distributed optimizer cannot be used", cause, remedy))
        half = config.params_dtype == torch.bfloat16
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = DistributedOptimizer(
                inner,
                OptimizerConfig(
                    optimizer="adam",
                    lr=inner.defaults["lr"],
                    bf16=half,
                    params_dtype=config.params_dtype,
                    use_distributed_optimizer=True,
                    clip_grad=0.0,
                ),
                None,
                None,
                model_chunks=[self._wrapped],
                per_model_buffers={0: self._wrapped.buffers},
                data_parallel_group=self._layout.groups.dp_cp,
                data_parallel_group_gloo=None,
                data_parallel_group_idx=parallel_state.get_model_parallel_group().rank(),
                distributed_optimizer_instance_id=0,
            )
        made.tp_group = self._layout.groups.tp
        return made

    # --- weights --------------------------------------------------------------------------------------------------

    def fill(self, wholes: Mapping[str, torch.Tensor]) -> None:
        """Copies this rank's parts of whole canonical tensors, whatever their dtype."""
        with torch.no_grad():
            for parameter, of in self._of.items():
                full = self._joined(parameter, {shard.name: wholes[shard.name] for shard in of})
                parameter.data.copy_(full)
                main, place = self._own(parameter)
                if main is not None:
                    main.data.copy_(full.view(-1)[place])

    def weights(self) -> Held:
        mains = {parameter: main for parameter in self._of if (main := self._own(parameter)[0]) is not None}
        return self._windows(mains)

    # --- gradients ------------------------------------------------------------------------------------------------

    def collect(self) -> None:
        """Sums the gradients of a finished backward pass; each data rank keeps its ranges of the sums."""
        from megatron.core.distributed import finalize_model_grads

        finalize_model_grads([self._wrapped])

    def gradients(self) -> Held:
        return self._windows({parameter: self._slope(parameter) for parameter in self._of})

    def scale(self, factor: float) -> None:
        self._wrapped.scale_gradients(factor)

    def squares(self) -> float:
        """Sum of the squared gradients that are this rank's to count: what several ranks hold belongs to one."""
        first = self._layout.tensor_rank == 0
        mine = [
            self._slope(parameter)
            for parameter, of in self._of.items()
            if not of[0].duplicate and (of[0].dim is not None or first)
        ]
        return float(nn.utils.get_total_norm(mine)) ** 2 if mine else 0.0

    def clear(self) -> None:
        self._wrapped.zero_grad_buffer()

    # --- the optimizer --------------------------------------------------------------------------------------------

    def step(self, lr: float) -> None:
        for group in self._optimizer.optimizer.param_groups:
            group["lr"] = lr * group.get("scale", 1.0)
        self._optimizer.step()

    def state(self) -> Iterator[tuple[Shard, str, Any]]:
        """(shard, key, value) of the optimizer's state. Collective: ranges are put together over the data ranks."""
        states = {parameter: self._state(parameter) for parameter in self._of}
        keys = self._agreed({key: value for state in states.values() for key, value in state.items()})
        for key, value in keys.items():
            if value is not None:
                for shards in self._of.values():
                    yield from ((shard, key, value) for shard in shards if not shard.duplicate)
                continue
            parts = {parameter: state[key] for parameter, state in states.items() if key in state}
            for shard, tensor in self._windows(parts).values():
                yield shard, key, tensor

    def restore(self, stored: Mapping[str, Mapping[str, Any]]) -> None:
        """``stored``: canonical name -> key -> whole tensor or number."""
        groups = {id(main): group for group in self._optimizer.optimizer.param_groups for main in group["params"]}
        self._optimizer.optimizer.state.clear()
        for parameter, of in self._of.items():
            main, place = self._own(parameter)
            if main is None:
                continue
            found = {shard.name: stored[shard.name] for shard in of if shard.name in stored}
            for key, value in (found.get(of[0].name) or {}).items():
                here = value
                if isinstance(value, torch.Tensor):
                    if value.dim():
                        here = self._joined(parameter, {name: held[key] for name, held in found.items()}).view(-1)[
                            place
                        ]
                    here = placed(key, here.clone(), main.device, groups[id(main)])
                self._optimizer.optimizer.state[main][key] = here

    # --- ranges ---------------------------------------------------------------------------------------------------

    def _own(self, parameter: nn.Parameter) -> tuple[torch.Tensor | None, slice]:
        """The float32 weights of this data rank's range of a parameter, and the range; None where it has none."""
        if parameter not in self._optimizer.model_param_group_index_map:
            return None, slice(0, 0)
        group, order = self._optimizer.model_param_group_index_map[parameter]
        held = self._optimizer._get_model_param_range_map(parameter)["param"]
        main: torch.Tensor = self._optimizer.optimizer.param_groups[group]["params"][order]
        return main, slice(held.start, held.end)

    def _slope(self, parameter: Any) -> torch.Tensor:
        gradient: torch.Tensor = parameter.main_grad.view(-1)[self._own(parameter)[1]]
        return gradient.float()

    def _state(self, parameter: nn.Parameter) -> dict[str, Any]:
        main, _ = self._own(parameter)
        return {} if main is None else dict(self._optimizer.optimizer.state.get(main, {}))

    def _agreed(self, mine: Mapping[str, Any]) -> dict[str, Any]:
        """The keys of the state, with the value of those that are single numbers: all parameters step together."""
        single = {
            key: (value if not isinstance(value, torch.Tensor) or value.dim() == 0 else None)
            for key, value in mine.items()
        }
        told: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(told, single)
        return {key: value for part in reversed(told) for key, value in sorted(part.items())}

    def _windows(self, parts: Mapping[nn.Parameter, torch.Tensor]) -> Held:
        """Whole shards from this data rank's ranges. Collective over the data ranks."""
        held: dict[str, tuple[Shard, torch.Tensor]] = {}
        for parameter, of in self._of.items():
            full = torch.zeros(parameter.numel(), dtype=torch.float32, device=parameter.device)
            if parameter in parts:
                full[self._own(parameter)[1]] = parts[parameter].detach().view(-1).float()
            if self._layout.data[1] > 1:
                distributed.all_reduce(full, group=self._layout.groups.dp)
            shaped = full.view(parameter.shape)
            held |= {shard.name: (shard, shard.take(shaped)) for shard in of if not shard.duplicate}
        return held

    def _joined(self, parameter: nn.Parameter, wholes: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """A float32 tensor shaped as the parameter, filled from canonical tensors; zero where there is padding."""
        full = torch.zeros(parameter.shape, dtype=torch.float32, device=parameter.device)
        for shard in self._of[parameter]:
            shard.put(full, shard.cut(wholes[shard.name]))
        return full
