"""The engine: builds the model, steps it, saves it. Weights, gradients and optimizer state are float32.

Alone or as one of several replicas: each reads its share of the batch, and what is summed over microbatches is then
summed over replicas too (totals before the passes, gradients and statistics after them). Since terms are sums that are
divided by the totals of the whole batch, the sum of gradients is the gradient, and no replica needs as many
microbatches as another.

With ``bfloat16`` the forward pass runs under ``torch.autocast``: products in bfloat16, sums, norms and the loss in
float32, as mixed precision is usually meant (Micikevicius et al. 2018, arXiv:1710.03740; bfloat16's range makes their
loss scaling unnecessary).
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from lmgraft.devices import resolve_precision
from lmgraft.errors import Problem, UserError
from lmgraft.seams.architecture import Outputs
from lmgraft.seams.objective import Batch, Objective
from lmgraft.seams.parallelism import EnginePlan, ModelHandle, StepStats
from lmgraft.training import freezing, int8, optimizer_state, weights
from lmgraft.training.handle import Handle
from safetensors.torch import load_file, save_file
from torch import nn

from lmgraft_data_parallel.replicas import Alone, Replicas

__all__ = ["SingleEngine"]

MODEL = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"

#: Among the totals: the number of microbatches, over which the model's own losses are averaged.
PASSES = "microbatches "


class SingleEngine:
    """Implements :class:`lmgraft.seams.parallelism.Engine` for one process and one device."""

    def __init__(self, plan: EnginePlan, replicas: Replicas | None = None) -> None:
        _check_device(plan.device)
        _check_precision(plan)
        self._replicas = replicas or Alone()
        self._plan = plan
        self._device = torch.device(plan.device)
        self._module = _started(plan)
        self._forward: nn.Module = torch.compile(self._module) if plan.compile else self._module  # type: ignore[assignment]
        self._optimizer: torch.optim.Optimizer | None = None
        self._trained = freezing.trained(self._module, plan)
        self._norm: float | None = None
        self._handle: Handle | None = None
        if plan.optimizer is not None:
            self._optimizer = plan.optimizer.build([(part.name, part.rows, part.role) for part in self._trained])

    @property
    def data(self) -> tuple[int, int]:
        return self._replicas.rank, self._replicas.size

    @property
    def main(self) -> bool:
        return self._replicas.rank == 0

    # --- stepping -------------------------------------------------------------------------------------------------

    def forward_backward(self, microbatches: Sequence[Batch]) -> StepStats:
        """Gradients of the sum over terms of sum / total; the totals are those of all microbatches together."""
        objective = self._plan.objective
        assert objective is not None, "an engine without an objective only scores and generates"
        self._module.train()
        batches = [_to(batch, self._device) for batch in microbatches]
        totals = _totals(objective, batches, self._replicas)
        shared = self._prepare(objective, batches)
        losses = [torch.zeros((), device=self._device)]
        sums: dict[str, float] = defaultdict(float)
        for batch in batches:
            with self._autocast():
                out = self._run(batch, objective.asks)
            loss = objective.loss(out, batch, shared)
            parts = [term / totals[name] for name, term in loss.terms.items()]
            parts += [extra / totals[PASSES] for extra in out.model_losses.values()]
            value = torch.stack([part.float() for part in parts]).sum()
            if value.requires_grad:  # nothing that is trained may have had a part in it
                value.backward()  # type: ignore[no-untyped-call]
            losses.append(value.detach())
            for name, (amount, count) in loss.metrics.items():
                sums[f"sum {name}"] += amount
                sums[f"count {name}"] += count
        for part in self._trained:
            part.take()
        self._replicas.add_up([part.rows for part in self._trained])
        norm = nn.utils.get_total_norm(list(self.gradients().values()))
        # One wait for the device a step, for both figures.
        total, self._norm = torch.stack([torch.stack(losses).sum(), norm.float().to(self._device)]).tolist()
        sums = self._replicas.sums({"loss": total, **sums})
        names = [name.removeprefix("count ") for name, count in sums.items() if name.startswith("count ") and count]
        metrics = {name: sums[f"sum {name}"] / sums[f"count {name}"] for name in sorted(names)}
        return StepStats(loss=sums["loss"], grad_norm=self._norm, metrics=metrics)

    def apply(self, lr: float) -> None:
        assert self._optimizer is not None, "an engine without an optimizer does not step"
        assert self._norm is not None, "apply follows forward_backward"
        if self._plan.clip is not None and self._norm > self._plan.clip:
            torch._foreach_mul_(list(self.gradients().values()), self._plan.clip / self._norm)
        for group in self._optimizer.param_groups:
            group["lr"] = lr * group.get("scale", 1.0)
        self._optimizer.step()
        self.discard()

    def discard(self) -> None:
        for part in self._trained:
            part.clear()
        self._norm = None

    def agree(self, flag: bool) -> bool:
        return self._replicas.sums({"": float(flag)})[""] > 0

    def gradients(self) -> Mapping[str, torch.Tensor]:
        """Canonical name -> gradient of the whole batch, unclipped; between ``forward_backward`` and ``apply``. Of a
        table with frozen rows that of the others."""
        return {part.name: part.rows.grad for part in self._trained if part.rows.grad is not None}

    def _prepare(self, objective: Objective, batches: Sequence[Batch]) -> Mapping[str, Any]:
        """Sums over the whole batch that an objective needs before its loss (KTO's KL); most need none."""
        prepare = getattr(objective, "prepare", None)
        if prepare is None:
            return {}
        shared: dict[str, Any] = {}
        for batch in batches:
            with torch.no_grad():
                with self._autocast():
                    out = self._run(batch, objective.asks)
                for name, amount in prepare(out, batch).items():
                    shared[name] = shared[name] + amount if name in shared else amount
        return self._replicas.shared(shared)

    # --- asking ---------------------------------------------------------------------------------------------------

    def score(self, batches: Iterator[Batch], asks: frozenset[str]) -> Iterator[tuple[Batch, Outputs]]:
        self._module.eval()
        for batch in batches:
            here = _to(batch, self._device)
            with torch.inference_mode(), self._autocast():
                out = self._run(here, asks)
            yield here, out

    def handle(self) -> ModelHandle:
        """One for all who ask, where weights do not change: what it makes of them is then made once."""
        if self._plan.objective is not None:
            return Handle(self._module, self._plan.architecture.context(), self._device, self._autocast)
        if self._handle is None:
            context = self._plan.architecture.context()
            self._handle = Handle(self._module, context, self._device, self._autocast, settled=True)
        return self._handle

    def parameters(self) -> Mapping[str, torch.Size]:
        return {name: parameter.shape for name, parameter in self._module.named_parameters()}

    # --- files ----------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """All replicas hold everything: the main one writes, the others wait until it has."""
        if self.main:
            self._write(folder)
        self._replicas.sums({"": 0.0})

    def _write(self, folder: Path) -> None:
        state = {name: tensor.cpu().contiguous() for name, tensor in weights.canonical(self._module).items()}
        save_file(state, folder / MODEL, metadata={"format": "pt"})
        if self._optimizer is not None:
            optimizer_state.save(self._optimizer, self._names(), folder / OPTIMIZER)

    def load(self, folder: Path) -> None:
        stored = load_file(folder / MODEL)
        own = weights.canonical(self._module)
        if {name: tensor.shape for name, tensor in stored.items()} != {name: t.shape for name, t in own.items()}:
            cause = "its tensors are not those of this architecture"
            raise UserError(Problem(f"{folder} does not fit", cause, "remove the folder to begin anew"))
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(stored[name])
        if self._handle is not None:
            self._handle.renew()
        if self._optimizer is not None:
            optimizer_state.load(self._optimizer, self._names(), folder / OPTIMIZER)

    def export(self, folder: Path) -> None:
        if self._plan.precision == "int8":
            cause = "its weights have been rounded to 8-bit integers, and those of the model are gone"
            raise UserError(
                Problem(f"{folder}: an int8 model is not exported", cause, "load it with precision=float32")
            )
        if not self.main:
            return
        weights.export(folder, weights.canonical(self._module), self._plan.architecture, self._plan.vocab_size)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _run(self, batch: Batch, asks: frozenset[str]) -> Outputs:
        out: Outputs = self._forward(
            batch.tokens, positions=batch.positions, segments=batch.segments, targets=batch.targets, asks=asks
        )
        return out

    def _names(self) -> dict[torch.Tensor, str]:
        return {part.rows: part.name for part in self._trained}

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._plan.precision == "bfloat16":
            return torch.autocast(self._device.type, dtype=torch.bfloat16)
        return nullcontext()


def _totals(objective: Objective, batches: Sequence[Batch], replicas: Replicas) -> Mapping[str, float]:
    totals: dict[str, float] = defaultdict(float, {PASSES: float(len(batches))})
    for batch in batches:
        for name, amount in objective.normalizers(batch).items():
            totals[name] += amount
    # A total of 0 means that there is nothing to predict: the sum is 0 too, and 0 / 0 must not become a step.
    return {name: total or 1.0 for name, total in replicas.sums(totals).items()}


def _started(plan: EnginePlan) -> nn.Module:
    module = weights.materialise(plan.architecture, plan.vocab_size, plan.device)
    if plan.weights is not None:
        weights.load_into(module, plan.architecture, plan.weights, plan.seed)
    else:
        assert plan.initializer is not None, "weights start from a model folder or from an initializer"
        weights.initialise(module, plan.architecture, plan.initializer, plan.seed)
    if plan.precision == "int8":
        _to_int8(module, plan)
    return module


def _to_int8(module: nn.Module, plan: EnginePlan) -> None:
    """Inputs of the products are rounded to bfloat16 where that is what makes them fast; all else is float32."""
    fast = resolve_precision("auto", plan.device) == "bfloat16"
    names = int8.projections(module, plan.architecture)
    int8.quantize_(module, names, compute=torch.bfloat16 if fast else None)


def _check_precision(plan: EnginePlan) -> None:
    if plan.precision == "int8" and plan.objective is not None:
        cause = "8-bit weights cannot take the small steps of an optimizer; precision=int8 is for asking a model"
        remedy = "precision=bfloat16 or float32; for a frozen 8-bit base with trained adapters: adapter=lora"
        raise UserError(Problem("training with precision=int8", cause, remedy))


def _to(batch: Batch, device: torch.device) -> Batch:
    if batch.tokens.device == device:
        return batch
    moved = {
        field.name: value.to(device, non_blocking=True)
        for field in dataclasses.fields(batch)
        if isinstance(value := getattr(batch, field.name), torch.Tensor)
    }
    values = {name: value.to(device, non_blocking=True) for name, value in batch.values.items()}
    return dataclasses.replace(batch, **moved, values=values)


def _check_device(device: str) -> None:
    ready: dict[str, Callable[[], bool]] = {
        "cpu": lambda: True,
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
    }
    kind = device.split(":")[0]
    if kind not in ready or not ready[kind]():
        there = ", ".join(name for name, test in ready.items() if test())
        cause = "torch finds no such device here"
        raise UserError(Problem(f"device {device} cannot be used", cause, f"set device to one of: auto, {there}"))
