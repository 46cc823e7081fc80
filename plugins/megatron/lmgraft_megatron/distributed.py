"""Megatron's distributed optimizer: gradients, float32 weights and moments split over the data ranks (ZeRO's first
stage, Rajbhandari et al. 2020, arXiv:1910.02054), around the plan's own AdamW.

Megatron cuts each of its parameters into flat ranges, one a data rank. Whole parameters are put together again from
those ranges when canonical tensors are asked for, and cut again when they come back.

What is frozen is left out of the ranges and kept whole, in float32, on every data rank. Ranges take no account of rows,
so frozen rows stay in them: their gradients and moments are zeros, by which AdamW adds zeros, and its decay is applied
here, to the other rows alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from lmgraft.errors import Problem, UserError
from lmgraft.seams.architecture import TensorRole
from lmgraft.seams.parallelism import EnginePlan
from torch import distributed, nn

from lmgraft_megatron.layout import Layout
from lmgraft_megatron.masters import Held, placed
from lmgraft_megatron.shards import Shard

__all__ = ["Distributed"]

#: The decay of a group whose parameters have frozen rows; AdamW's own is 0 there.
DECAY = "decay of trained rows"


class Distributed:
    """This rank's weights, split over the data ranks; the same methods as :class:`lmgraft_megatron.masters.Masters`."""

    def __init__(
        self,
        shards: Sequence[Shard],
        layout: Layout,
        plan: EnginePlan,
        model: Any,
        firsts: Mapping[str, int],
        roles: Mapping[str, TensorRole],
    ) -> None:
        """``firsts``: canonical name -> first row that is trained, as ``freezing.first_rows`` gives them; ``roles``: of
        whole tensors, as ``weights.tensor_roles`` gives them. Of a fused matrix all tensors are trained, or none, and
        all at one rate (``lmgraft_megatron.refusals``)."""
        from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig

        self._layout = layout
        self._shards = list(shards)
        self._of: dict[nn.Parameter, list[Shard]] = {}
        for shard in self._shards:
            self._of.setdefault(shard.parameter, []).append(shard)
        self._firsts = firsts
        self._grown = [parameter for parameter in self._of if parameter.requires_grad]
        self._frozen_rows = {
            parameter: skipped
            for parameter in self._grown
            if (skipped := self._of[parameter][0].below(firsts[self._of[parameter][0].name]))
        }
        self._still: dict[nn.Parameter, torch.Tensor] = {}
        """Whole float32 weights of parameters that are frozen, where Megatron's are narrower."""
        settings = DistributedDataParallelConfig(grad_reduce_in_fp32=True, use_distributed_optimizer=True)
        self._wrapped = DistributedDataParallel(model.config, settings, model)
        self._wrapped.zero_grad_buffer()
        self._optimizer = self._distributed(plan, model.config, roles) if self._grown else None

    def _distributed(self, plan: EnginePlan, config: Any, roles: Mapping[str, TensorRole]) -> Any:
        from megatron.core import parallel_state
        from megatron.core.optimizer import OptimizerConfig
        from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer

        assert plan.optimizer is not None, "asked only where there is one"
        # A fused matrix has the role of its first tensor: queries, keys and values are treated alike, gate and up too.
        names = {parameter: self._of[parameter][0].name for parameter in self._grown}
        inner = plan.optimizer.build([(name, parameter, roles[name]) for parameter, name in names.items()])
        if not isinstance(inner, torch.optim.AdamW):
            cause = f"it splits AdamW's state only, and the recipe's optimizer is {type(inner).__name__}"
            remedy = "parallelism.distributed_optimizer=false, or optimizer adamw"
            raise UserError(Problem("megatron's distributed optimizer cannot be used", cause, remedy))
        _take_decay(inner, self._frozen_rows)
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
                if not parameter.requires_grad and parameter.dtype != torch.float32:
                    self._still[parameter] = full
                main, place = self._own(parameter)
                if main is not None:
                    main.data.copy_(full.view(-1)[place])

    def weights(self) -> Held:
        mains = {parameter: main for parameter in self._grown if (main := self._own(parameter)[0]) is not None}
        held = dict(self._windows(mains))
        for parameter, of in self._of.items():
            if not parameter.requires_grad:
                whole = self._still.get(parameter, parameter.data)
                held |= {shard.name: (shard, shard.take(whole)) for shard in of if not shard.duplicate}
        return held

    # --- gradients ------------------------------------------------------------------------------------------------

    def collect(self) -> None:
        """Sums the gradients of a finished backward pass; each data rank keeps its ranges of the sums."""
        from megatron.core.distributed import finalize_model_grads

        finalize_model_grads([self._wrapped])
        for parameter, rows in self._frozen_rows.items():
            parameter.main_grad[:rows] = 0.0

    def gradients(self) -> Held:
        return self._beyond(self._windows({parameter: self._slope(parameter) for parameter in self._grown}))

    def scale(self, factor: float) -> None:
        self._wrapped.scale_gradients(factor)

    def squares(self) -> float:
        """Sum of the squared gradients that are this rank's to count: what several ranks hold belongs to one."""
        first = self._layout.tensor_rank == 0
        mine = [
            self._slope(parameter)
            for parameter in self._grown
            if not (of := self._of[parameter])[0].duplicate and (of[0].dim is not None or first)
        ]
        return float(nn.utils.get_total_norm(mine)) ** 2 if mine else 0.0

    def clear(self) -> None:
        self._wrapped.zero_grad_buffer()

    # --- the optimizer --------------------------------------------------------------------------------------------

    def step(self, lr: float) -> None:
        if self._optimizer is None:  # nothing that lies on this rank is trained
            return
        for group in self._optimizer.optimizer.param_groups:
            group["lr"] = lr * group.get("scale", 1.0)
        with torch.no_grad():
            for parameter, rows in self._frozen_rows.items():
                main, place = self._own(parameter)
                if main is not None:
                    group = self._optimizer.optimizer.param_groups[self._place(parameter)[0]]
                    decayed = main.data[max(0, rows * parameter[0].numel() - place.start) :]
                    decayed.mul_(1 - group["lr"] * group.get(DECAY, 0.0))
        self._optimizer.step()

    def state(self) -> Iterator[tuple[Shard, str, Any]]:
        """(shard, key, value) of the optimizer's state. Collective: ranges are put together over the data ranks."""
        states = {parameter: self._state(parameter) for parameter in self._grown}
        keys = self._agreed({key: value for state in states.values() for key, value in state.items()})
        for key, value in keys.items():
            if value is not None:
                for parameter in self._grown:
                    yield from ((shard, key, value) for shard in self._of[parameter] if not shard.duplicate)
                continue
            parts = {parameter: state[key] for parameter, state in states.items() if key in state}
            for shard, tensor in self._beyond(self._windows(parts)).values():
                yield shard, key, tensor

    def restore(self, stored: Mapping[str, Mapping[str, Any]]) -> None:
        """``stored``: canonical name -> key -> whole tensor or number."""
        if self._optimizer is None:
            return
        groups = {id(main): group for group in self._optimizer.optimizer.param_groups for main in group["params"]}
        self._optimizer.optimizer.state.clear()
        for parameter in self._grown:
            of = self._of[parameter]
            main, place = self._own(parameter)
            if main is None:
                continue
            found = {shard.name: stored[shard.name] for shard in of if shard.name in stored}
            for key, value in (found.get(of[0].name) or {}).items():
                here = value
                if isinstance(value, torch.Tensor):
                    if value.dim():
                        wholes = {name: self._padded(name, held[key]) for name, held in found.items()}
                        here = self._joined(parameter, wholes).view(-1)[place]
                    here = placed(key, here.clone(), main.device, groups[id(main)])
                self._optimizer.optimizer.state[main][key] = here

    # --- ranges ---------------------------------------------------------------------------------------------------

    def _own(self, parameter: nn.Parameter) -> tuple[torch.Tensor | None, slice]:
        """The float32 weights of this data rank's range of a parameter, and the range; None where it has none."""
        if self._optimizer is None or parameter not in self._optimizer.model_param_group_index_map:
            return None, slice(0, 0)
        group, order = self._place(parameter)
        held = self._optimizer._get_model_param_range_map(parameter)["param"]
        main: torch.Tensor = self._optimizer.optimizer.param_groups[group]["params"][order]
        return main, slice(held.start, held.end)

    def _place(self, parameter: nn.Parameter) -> tuple[int, int]:
        """Group and place in it of this data rank's range."""
        found: tuple[int, int] = self._optimizer.model_param_group_index_map[parameter]
        return found

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
        for parameter in self._grown:
            of = self._of[parameter]
            full = torch.zeros(parameter.numel(), dtype=torch.float32, device=parameter.device)
            if parameter in parts:
                full[self._own(parameter)[1]] = parts[parameter].detach().view(-1).float()
            if self._layout.data[1] > 1:
                distributed.all_reduce(full, group=self._layout.groups.dp)
            shaped = full.view(parameter.shape)
            held |= {shard.name: (shard, shard.take(shaped)) for shard in of if not shard.duplicate}
        return held

    def _beyond(self, held: Held) -> Held:
        """Without frozen rows."""
        found = {}
        for name, (shard, tensor) in held.items():
            skipped = shard.below(self._firsts[name])
            if skipped < shard.shape[0]:
                found[name] = (shard.beyond(self._firsts[name]), tensor[skipped:])
        return found

    def _padded(self, name: str, trained: torch.Tensor) -> torch.Tensor:
        """Zeros for frozen rows."""
        first = self._firsts[name]
        return torch.cat((trained.new_zeros((first, *trained.shape[1:])), trained)) if first else trained

    def _joined(self, parameter: nn.Parameter, wholes: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """A float32 tensor shaped as the parameter, filled from canonical tensors; zero where there is padding."""
        full = torch.zeros(parameter.shape, dtype=torch.float32, device=parameter.device)
        for shard in self._of[parameter]:
            shard.put(full, shard.cut(wholes[shard.name]))
        return full


def _take_decay(inner: torch.optim.Optimizer, frozen_rows: Mapping[nn.Parameter, int]) -> None:
    """Gives parameters with frozen rows groups of their own, where the decay is 0 and stands under :data:`DECAY`."""
    groups = []
    for group in inner.param_groups:
        own = [parameter for parameter in group["params"] if parameter in frozen_rows]
        rest = [parameter for parameter in group["params"] if parameter not in frozen_rows]
        if own:
            groups.append({**group, "params": own, "weight_decay": 0.0, DECAY: group["weight_decay"]})
        if rest:
            groups.append({**group, "params": rest})
    inner.param_groups[:] = groups
