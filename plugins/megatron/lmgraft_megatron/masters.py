"""Float32 weights that the plan's optimizer steps, one a canonical shard, and the gradients that come back to them.

What is frozen (``lmgraft.training.freezing``) has no gradient and no optimizer; it has a master all the same, since in
bfloat16 Megatron's parameter does not hold its bits. Of a table with frozen rows the optimizer is given the others.

In float32 a shard that lies in one piece in Megatron's parameter *is* the master; queries, keys and values, which lie
interleaved, and everything in bfloat16, are copies that are written back after a step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from lmgraft.seams.architecture import TensorRole
from lmgraft.seams.parallelism import EnginePlan
from torch import nn

from lmgraft_megatron.layout import Layout
from lmgraft_megatron.shards import Shard
from lmgraft_megatron.sharing import sum_over

__all__ = ["Held", "Masters", "placed"]

#: Canonical name -> a shard and what of it is asked for (the weights, the gradients, a moment), shaped as the shard.
Held = Mapping[str, tuple[Shard, torch.Tensor]]


class Masters:
    """This rank's weights, whole on each data rank."""

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
        whole tensors, as ``weights.tensor_roles`` gives them."""
        self._layout = layout
        self._model = model
        self._pairs: list[tuple[Shard, nn.Parameter, bool]] = []
        for shard in shards:
            with torch.no_grad():
                taken = shard.take(shard.parameter.data)
                shares = taken.dtype == torch.float32 and _same_memory(taken, shard.parameter.data)
                master = nn.Parameter(taken if shares else taken.float().clone())
            self._pairs.append((shard, master, shares))
        self._firsts = firsts
        self._trained = list(self._stepped())
        own = {id(shard.parameter): shard.parameter for shard in shards}
        # Those of all ranks alike, also where this one's rows of them are frozen: their sums go over ranks.
        self._grown = {key: parameter for key, parameter in own.items() if parameter.requires_grad}
        self._sums: dict[nn.Parameter, torch.Tensor] = {}
        for parameter in self._grown.values():
            if parameter.dtype != torch.float32:
                parameter.register_post_accumulate_grad_hook(self._add)
        self._optimizer: torch.optim.Optimizer | None = None
        if plan.optimizer is not None and self._trained:
            named = [(shard.name, master, roles[shard.name]) for shard, master in self._trained]
            self._optimizer = plan.optimizer.build(named)

    def _stepped(self) -> Iterator[tuple[Shard, nn.Parameter]]:
        """What the optimizer steps: masters, or their rows beyond the frozen ones in the same memory."""
        for shard, master in self.items():
            first = self._firsts.get(shard.name)
            if first is None:
                continue
            skipped = shard.below(first)
            if skipped < shard.shape[0]:
                yield shard.beyond(first), nn.Parameter(master.data[skipped:]) if skipped else master

    def items(self) -> Iterator[tuple[Shard, nn.Parameter]]:
        for shard, master, _ in self._pairs:
            yield shard, master

    def unique(self) -> Iterator[tuple[Shard, nn.Parameter]]:
        """Each canonical tensor that is trained once: without the last stage's second copy of a tied embedding."""
        return ((shard, master) for shard, master in self._trained if not shard.duplicate)

    def fill(self, wholes: Mapping[str, torch.Tensor]) -> None:
        """Copies this rank's parts of whole canonical tensors, whatever their dtype."""
        with torch.no_grad():
            for shard, master in self.items():
                master.copy_(shard.cut(wholes[shard.name]))
            for shard, master, shares in self._pairs:
                if not shares:
                    shard.put(shard.parameter.data, master.data)

    def publish(self) -> None:
        """Writes the masters that are trained back into Megatron's parameters."""
        with torch.no_grad():
            for shard, master, shares in self._pairs:
                if not shares and shard.name in self._firsts:
                    shard.put(shard.parameter.data, master.data)

    def weights(self) -> Held:
        return {shard.name: (shard, master) for shard, master in self.items() if not shard.duplicate}

    # --- the optimizer --------------------------------------------------------------------------------------------

    def step(self, lr: float) -> None:
        if self._optimizer is None:  # nothing that lies on this rank is trained
            return
        for group in self._optimizer.param_groups:
            group["lr"] = lr * group.get("scale", 1.0)
        self._optimizer.step()
        self.publish()

    def state(self) -> Iterator[tuple[Shard, str, Any]]:
        """(shard, key, value) of the optimizer's state; tensors that are shaped as the shard are parts of a whole."""
        if self._optimizer is None:
            return
        for shard, master in self.unique():
            for key, value in self._optimizer.state.get(master, {}).items():
                yield shard, key, value

    def restore(self, stored: Mapping[str, Mapping[str, Any]]) -> None:
        """``stored``: canonical name -> key -> whole tensor or number."""
        if self._optimizer is None:
            return
        groups = {parameter: group for group in self._optimizer.param_groups for parameter in group["params"]}
        self._optimizer.state.clear()
        for shard, master in self._trained:
            for key, value in stored.get(shard.name, {}).items():
                here = value
                if isinstance(value, torch.Tensor):
                    here = shard.cut(value).clone() if value.dim() else value
                    here = placed(key, here, master.device, groups[master])
                self._optimizer.state[master][key] = here

    # --- gradients ------------------------------------------------------------------------------------------------

    def collect(self) -> None:
        """Sums the gradients of a finished backward pass over all ranks that hold parts of them."""
        layout, model = self._layout, self._model
        summed = {key: self._gradient(parameter) for key, parameter in self._grown.items()}
        if layout.sequence_parallel:
            marked = [
                summed[key] for key, parameter in self._grown.items() if getattr(parameter, "sequence_parallel", False)
            ]
            sum_over(marked, layout.groups.tp)
        if model.share_embeddings_and_output_weights and layout.pipeline > 1 and (layout.first or layout.last):
            shared = summed.get(id(model.shared_embedding_or_output_weight()))
            if shared is not None:
                sum_over([shared], layout.groups.embd)
        sum_over(list(summed.values()), layout.groups.dp)
        with torch.no_grad():
            for shard, master in self._trained:
                master.grad = shard.take(summed[id(shard.parameter)])

    def gradients(self) -> Held:
        return {shard.name: (shard, master.grad) for shard, master in self.unique() if master.grad is not None}

    def scale(self, factor: float) -> None:
        grads = [master.grad for _, master in self._trained if master.grad is not None]
        if grads:
            torch._foreach_mul_(grads, factor)

    def squares(self) -> float:
        """Sum of the squared gradients that are this rank's to count: what several ranks hold belongs to one."""
        if self._layout.data[0] != 0:
            return 0.0
        first = self._layout.tensor_rank == 0
        mine = [grad for shard, grad in self.gradients().values() if shard.dim is not None or first]
        return float(nn.utils.get_total_norm(mine)) ** 2 if mine else 0.0

    def clear(self) -> None:
        self._sums.clear()
        for _, master in self._trained:
            master.grad = None
        for parameter in self._grown.values():
            parameter.grad = None

    def _add(self, parameter: nn.Parameter) -> None:
        """Gradients of microbatches are summed in float32: in bfloat16 the later ones would be lost."""
        assert parameter.grad is not None, "the hook follows an accumulated gradient"
        if parameter in self._sums:
            self._sums[parameter].add_(parameter.grad)
        else:
            self._sums[parameter] = parameter.grad.float()
        parameter.grad = None

    def _gradient(self, parameter: nn.Parameter) -> torch.Tensor:
        if parameter.dtype != torch.float32:
            return self._sums.setdefault(parameter, torch.zeros(parameter.shape, device=parameter.device))
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        return parameter.grad


def placed(key: str, value: torch.Tensor, device: torch.device, group: Mapping[str, Any]) -> torch.Tensor:
    """Torch keeps the step count on the CPU, unless a kernel on the device reads it."""
    if key == "step" and not (group.get("fused") or group.get("capturable")):
        return value
    return value.to(device)


def _same_memory(taken: torch.Tensor, whole: torch.Tensor) -> bool:
    return taken.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()
