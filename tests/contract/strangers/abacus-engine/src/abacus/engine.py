"""One model, one device, one microbatch at a time."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from lmgraft.errors import Fault
from lmgraft.seams.architecture import Outputs
from lmgraft.seams.objective import Batch
from lmgraft.seams.parallelism import EnginePlan, ModelHandle, StepStats
from lmgraft.training import freezing, optimizer_state, weights
from lmgraft.training.handle import Handle

from abacus.ledger import Averages, GradientLedger, Tally

WEIGHTS = "model.safetensors"
STATE = "optimizer.safetensors"


class AbacusEngine:
    """Implements ``lmgraft.seams.parallelism.Engine``."""

    def __init__(self, plan: EnginePlan, beads: str) -> None:
        self._plan = plan
        self._device = torch.device(plan.device)
        self._module = weights.materialise(plan.architecture, plan.vocab_size, plan.device)
        if plan.weights is not None:
            weights.load_into(self._module, plan.architecture, plan.weights, plan.seed)
        elif plan.initializer is not None:
            weights.initialise(self._module, plan.architecture, plan.initializer, plan.seed)
        else:
            raise Fault("an engine's plan has neither weights nor an initializer")
        self._forward = torch.compile(self._module) if plan.compile else self._module
        self._trained = freezing.trained(self._module, plan)
        self._ledger = GradientLedger([part.rows for part in self._trained], beads)
        self._optimizer: torch.optim.Optimizer | None = None
        if plan.optimizer is not None:
            self._optimizer = plan.optimizer.build([(part.name, part.rows, part.role) for part in self._trained])

    @property
    def data(self) -> tuple[int, int]:
        return (0, 1)

    @property
    def main(self) -> bool:
        return True

    # ---- learning

    def forward_backward(self, microbatches: Sequence[Batch]) -> StepStats:
        objective = self._plan.objective
        if objective is None:
            raise Fault("this engine was made without an objective")
        self._module.train()
        self._ledger.tear_out()
        denominators = Tally()
        for batch in microbatches:
            denominators.add(objective.normalizers(batch))
        totals = denominators.totals()
        shared = self._shared(microbatches)
        loss, averages = 0.0, Averages()
        for batch in microbatches:
            batch = moved(batch, self._device)
            outputs = self._ask(batch, objective.asks)
            result = objective.loss(outputs, batch, shared)
            share = sum(term / totals[name] for name, term in result.terms.items())
            share = share + sum(extra / len(microbatches) for extra in outputs.model_losses.values())
            loss += float(torch.as_tensor(share).detach())
            averages.add(result.metrics)
            if isinstance(share, torch.Tensor) and share.requires_grad:
                share.backward()
                for part in self._trained:
                    part.take()
                self._ledger.enter()
                for part in self._trained:
                    part.clear()
        return StepStats(loss=loss, grad_norm=self._ledger.norm(), metrics=averages.means())

    def apply(self, lr: float) -> None:
        if self._optimizer is None:
            raise Fault("this engine was made without an optimizer")
        self._ledger.settle(self._plan.clip)
        for group in self._optimizer.param_groups:
            group["lr"] = lr * group.get("scale", 1.0)
        self._optimizer.step()
        self._ledger.tear_out()

    def discard(self) -> None:
        self._ledger.tear_out()

    def agree(self, flag: bool) -> bool:
        return flag

    # ---- answering

    def score(self, batches: Iterator[Batch], asks: frozenset[str]) -> Iterator[tuple[Batch, Outputs]]:
        for batch in batches:
            self._module.eval()
            with torch.no_grad():
                outputs = self._ask(moved(batch, self._device), asks)
            yield batch, brought_home(outputs)

    def handle(self) -> ModelHandle:
        self._module.eval()
        return Handle(self._module, self._plan.architecture.context(), self._device, self._autocast)

    # ---- files

    def save(self, folder: Path) -> None:
        tensors = {name: tensor.cpu().contiguous() for name, tensor in weights.canonical(self._module).items()}
        safetensors.torch.save_file(tensors, folder / WEIGHTS)
        if self._optimizer is not None:
            optimizer_state.save(self._optimizer, self._names(), folder / STATE)

    def load(self, folder: Path) -> None:
        saved = safetensors.torch.load_file(folder / WEIGHTS)
        own = weights.canonical(self._module)
        if saved.keys() != own.keys():
            raise Fault(f"{folder / WEIGHTS} is of another model: {sorted(saved.keys() ^ own.keys())}")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(saved[name])
        if self._optimizer is not None:
            optimizer_state.load(self._optimizer, self._names(), folder / STATE)

    def export(self, folder: Path) -> None:
        weights.export(folder, weights.canonical(self._module), self._plan.architecture, self._plan.vocab_size)

    def parameters(self) -> Mapping[str, torch.Size]:
        return {name: parameter.shape for name, parameter in self._module.named_parameters()}

    # ---- inside

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self._plan.precision == "bfloat16":
            return torch.autocast(self._device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    def _ask(self, batch: Batch, asks: frozenset[str]) -> Outputs:
        with self._autocast():
            return self._forward(
                batch.tokens,
                positions=batch.positions,
                segments=batch.segments,
                targets=batch.targets,
                asks=asks,
            )

    def _shared(self, microbatches: Sequence[Batch]) -> dict[str, Any]:
        prepare = getattr(self._plan.objective, "prepare", None)
        if prepare is None:
            return {}
        tally = Tally()
        with torch.no_grad():
            for batch in microbatches:
                batch = moved(batch, self._device)
                tally.add(prepare(self._ask(batch, self._plan.objective.asks), batch))
        return tally.sums()

    def _names(self) -> dict[torch.Tensor, str]:
        return {part.rows: part.name for part in self._trained}


def moved(batch: Batch, device: torch.device) -> Batch:
    """The batch, all its tensors on ``device``."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, torch.Tensor):
            changes[field.name] = value.to(device)
        elif isinstance(value, Mapping):
            changes[field.name] = {name: tensor.to(device) for name, tensor in value.items()}
    return dataclasses.replace(batch, **changes)


def brought_home(outputs: Outputs) -> Outputs:
    """The answers on the CPU, where the batches are."""
    changes = {
        field.name: value.cpu()
        for field in dataclasses.fields(outputs)
        if isinstance(value := getattr(outputs, field.name), torch.Tensor)
    }
    return dataclasses.replace(outputs, **changes)
