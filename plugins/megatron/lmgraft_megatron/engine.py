"""The engine: Megatron's layers and schedules, stepped by the plan's own optimizer over canonical shards.

Weights and optimizer state are float32. With ``bfloat16`` Megatron's parameters are bfloat16 copies of float32 masters
and gradients are summed in float32, as in its own mixed precision (Micikevicius et al. 2018, arXiv:1710.03740).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lmgraft.errors import Fault
from lmgraft.seams.architecture import Outputs
from lmgraft.seams.objective import Batch, Objective
from lmgraft.seams.parallelism import EnginePlan, ModelHandle, StepStats
from lmgraft.training import freezing, weights
from lmgraft.training.handle import Handle
from torch import distributed, nn

from lmgraft_megatron import files, head, sharing
from lmgraft_megatron.asking import Asked
from lmgraft_megatron.batches import Fed, feed, moved
from lmgraft_megatron.distributed import Distributed
from lmgraft_megatron.layout import Layout
from lmgraft_megatron.masters import Masters
from lmgraft_megatron.model import build
from lmgraft_megatron.shards import freeze, shards, stage_of

__all__ = ["MegatronEngine"]


class MegatronEngine:
    """Implements :class:`lmgraft.seams.parallelism.Engine` for one rank of a layout."""

    def __init__(self, plan: EnginePlan, layout: Layout, engine: bool = False, distribute: bool = False) -> None:
        spec = plan.architecture.spec()
        assert spec is not None, "layouts without a decoder spec are refused before"
        self._plan, self._layout, self._spec = plan, layout, spec
        self._packed = engine
        self._model = build(spec, plan.vocab_size, plan.precision, layout, engine)
        self._shapes = files.canonical_shapes(plan)
        self._names = {name: (shape, stage_of(name, spec, layout.pipeline)) for name, shape in self._shapes.items()}
        firsts = freezing.first_rows(plan, self._shapes)
        roles = weights.tensor_roles(plan.architecture, plan.initializer, self._shapes)
        self._trained = {
            name: (_beyond(self._shapes[name], first), self._names[name][1]) for name, first in firsts.items()
        }
        freeze(self._model, spec, plan.vocab_size, layout, firsts)
        own = shards(self._model, spec, plan.vocab_size, layout)
        kind = Distributed if distribute else Masters
        self._masters: Masters | Distributed = kind(own, layout, plan, self._model, firsts, roles)
        files.start(plan, self._masters, self._shapes)
        self._rows = self._vocabulary()
        self._norm: float | None = None

    @property
    def data(self) -> tuple[int, int]:
        return self._layout.data

    @property
    def main(self) -> bool:
        return self._layout.main

    # --- stepping -------------------------------------------------------------------------------------------------

    def forward_backward(self, microbatches: Sequence[Batch]) -> StepStats:
        """Gradients of the sum over terms of sum / total; the totals are those of all data ranks' microbatches."""
        objective = self._plan.objective
        assert objective is not None, "an engine without an objective only scores and generates"
        self._model.train()
        fed = [self._fed(batch) for batch in microbatches]
        totals, passes = self._totals(objective, [part.batch for part in fed])
        shared = self._prepare(objective, fed)
        lost = self._run(fed, partial(_loss, objective, totals, shared, passes), objective.asks, forward_only=False)
        self._masters.collect()
        return self._stats([part for part in lost if part is not None])

    def apply(self, lr: float) -> None:
        assert self._norm is not None, "apply follows forward_backward"
        if self._plan.clip is not None and self._norm > self._plan.clip:
            self._masters.scale(self._plan.clip / self._norm)
        self._masters.step(lr)
        self.discard()

    def discard(self) -> None:
        self._masters.clear()
        self._norm = None

    def agree(self, flag: bool) -> bool:
        return sharing.everyone(flag, self._layout.device)

    def gradients(self) -> dict[str, torch.Tensor]:
        """The canonical gradients between ``forward_backward`` and ``apply``, unclipped, float32, on the main rank;
        empty on the others. Of a table with frozen rows that of the others. Collective."""
        return sharing.whole_tensors(self._trained, self._masters.gradients(), self._layout)

    def _totals(self, objective: Objective, batches: Sequence[Batch]) -> tuple[Mapping[str, float], int]:
        """The denominators, and the number of microbatches, of all data ranks together."""
        mine = sharing.add_up(objective.normalizers(batch) for batch in batches)
        first = self._layout.first and self._layout.tensor_rank == 0
        words = sharing.gather_objects((mine, len(batches)) if first else None)
        totals = sharing.add_up(word[0] for word in words if word)
        # A total of 0 means that there is nothing to predict: the sum is 0 too, and 0 / 0 must not become a step.
        return {name: total or 1.0 for name, total in totals.items()}, sum(word[1] for word in words if word)

    def _prepare(self, objective: Objective, fed: Sequence[Fed]) -> Mapping[str, Any]:
        """Sums over the whole batch that an objective needs before its loss (KTO's KL); most need none."""
        prepare = getattr(objective, "prepare", None)
        if prepare is None:
            return {}
        with torch.no_grad():
            parts = self._run(fed, lambda out, batch: prepare(out, batch), objective.asks, forward_only=True)
        mine = sharing.add_up(parts)
        told = {name: part.cpu() if isinstance(part, torch.Tensor) else part for name, part in mine.items()}
        leader = self._layout.last and self._layout.tensor_rank == 0
        total = sharing.add_up(sharing.gather_objects(told if leader else None))
        device = self._layout.device
        return {name: part.to(device) if isinstance(part, torch.Tensor) else part for name, part in total.items()}

    def _stats(self, lost: Sequence[tuple[float, Mapping[str, tuple[float, float]]]]) -> StepStats:
        """One exchange for all figures; every rank adds the same numbers in the same order."""
        layout = self._layout
        word: dict[str, Any] = {"squares": self._masters.squares()}
        if layout.last and layout.tensor_rank == 0:
            word["loss"] = sum(loss for loss, _ in lost)
            word["sums"] = sharing.add_up({name: total for name, (total, _) in metrics.items()} for _, metrics in lost)
            word["counts"] = sharing.add_up(
                {name: count for name, (_, count) in metrics.items()} for _, metrics in lost
            )
        words = sharing.gather_objects(word)
        self._norm = math.sqrt(sum(part["squares"] for part in words))
        sums = sharing.add_up(part.get("sums") for part in words)
        counts = sharing.add_up(part.get("counts") for part in words)
        return StepStats(
            loss=sum(part.get("loss", 0.0) for part in words),
            grad_norm=self._norm,
            metrics={name: total / counts[name] for name, total in sums.items() if counts[name]},
        )

    # --- asking ---------------------------------------------------------------------------------------------------

    def score(self, batches: Iterator[Batch], asks: frozenset[str]) -> Iterator[tuple[Batch, Outputs]]:
        self._model.eval()
        for batch in batches:
            here = moved(batch, self._layout.device)
            yield here, self.answer(here, asks)

    def answer(self, batch: Batch, asks: frozenset[str]) -> Outputs:
        """Forward only; the same on every rank of a data rank, which all call it. Targets are ignored where nothing is
        asked of them."""
        # No inference mode: Megatron keeps buffers for its next step, and inference tensors cannot take a gradient.
        with torch.inference_mode(False), torch.no_grad():
            found = self._run([self._fed(batch)], lambda out, _: out, asks, forward_only=True)
            out = found[0] if found else None
            return sharing.with_answers(out, asks, batch.tokens, batch.targets, self._plan.vocab_size, self._layout)

    def handle(self) -> ModelHandle:
        """Generation computes the whole past anew for each token; every rank asks the same."""
        asked = Asked(self.answer, self._model)
        return Handle(asked, self._plan.architecture.context(), self._layout.device, torch.no_grad)

    def parameters(self) -> Mapping[str, torch.Size]:
        return self._shapes

    # --- files ----------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        tensors = self._whole_weights()
        state = None
        if self._plan.optimizer is not None:
            state = files.whole_state(self._masters.state(), self._trained, self._layout)
        if self.main:
            files.write(folder, tensors, state)
        distributed.barrier()

    def load(self, folder: Path) -> None:
        files.load(folder, self._masters, self._shapes, self._plan.optimizer is not None)

    def export(self, folder: Path) -> None:
        tensors = self._whole_weights()
        if self.main:
            weights.export(folder, tensors, self._plan.architecture, self._plan.vocab_size)
        distributed.barrier()

    def _whole_weights(self) -> dict[str, torch.Tensor]:
        return sharing.whole_tensors(self._names, self._masters.weights(), self._layout)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _fed(self, batch: Batch) -> Fed:
        multiple = self._layout.tensor if self._layout.sequence_parallel else 1
        return feed(moved(batch, self._layout.device), multiple, self._packed, self._spec.window)

    def _vocabulary(self) -> head.Vocabulary:
        layout, size = self._layout, self._plan.vocab_size
        each = -(-size // layout.tensor)
        start = layout.tensor_rank * each
        return head.Vocabulary(size, start, max(0, min(size - start, each)), layout.groups.tp)

    def _run(
        self, fed: Sequence[Fed], answer: Callable[[Outputs, Batch], Any], asks: frozenset[str], *, forward_only: bool
    ) -> list[Any]:
        """Megatron's schedule over the microbatches: what ``answer`` gives for each, on the last stage; [] elsewhere.

        Unless ``forward_only``, ``answer`` gives (loss, what to keep), and the loss goes backward.
        """
        from megatron.core.pipeline_parallel import get_forward_backward_func

        if not fed:
            return []

        def finish(part: Fed, hidden: torch.Tensor, non_loss_data: bool = False) -> Any:
            out = self._outputs(hidden, part, asks)
            if non_loss_data:
                return answer(out, part.batch)
            loss, kept = answer(out, part.batch)
            return loss, torch.zeros([], dtype=torch.int, device=hidden.device), kept

        def step(parts: Iterator[Fed], model: Any) -> tuple[torch.Tensor, Any]:
            part = next(parts)
            return model.ask(part), partial(finish, part)

        schedule = get_forward_backward_func()
        found: list[Any] = schedule(
            forward_step_func=step,
            data_iterator=iter(fed),
            model=self._model,
            num_microbatches=len(fed),
            seq_length=fed[0].tokens.shape[1],
            micro_batch_size=fed[0].tokens.shape[0],
            forward_only=forward_only,
            collect_non_loss_data=forward_only,
        )
        return found if self._layout.last else []

    def _outputs(self, hidden: torch.Tensor, part: Fed, asks: frozenset[str]) -> Outputs:
        from megatron.core import tensor_parallel

        if unknown := asks - {"logprob", "logsumexp", "entropy", "vocab_mean", "greedy", "next_logits"}:
            raise Fault(f"a decoder of megatron-core cannot answer {', '.join(sorted(unknown))}")
        layout = self._layout
        if layout.sequence_parallel:
            hidden = tensor_parallel.gather_from_sequence_parallel_region(hidden, tensor_parallel_output_grad=True)
        hidden = part.rows(hidden)
        if layout.tensor > 1 and not layout.sequence_parallel:
            # After the transposition: Megatron sums a copy of a gradient that does not lie in one piece, and drops it.
            hidden = tensor_parallel.copy_to_tensor_model_parallel_region(hidden)
        weight = self._model.head()
        out = head.compute(hidden, weight, part.batch.targets, asks - {"next_logits"}, self._rows)
        if "next_logits" in asks:
            logits = nn.functional.linear(hidden[:, -1], weight).float()
            pieces = [torch.empty_like(logits) for _ in range(layout.tensor)]
            distributed.all_gather(pieces, logits.contiguous(), group=layout.groups.tp)
            out.next_logits = torch.cat(pieces, 1)[:, : self._plan.vocab_size].contiguous()
        return out


def _beyond(shape: torch.Size, first: int) -> torch.Size:
    return torch.Size((shape[0] - first, *shape[1:]))


def _loss(
    objective: Objective,
    totals: Mapping[str, float],
    shared: Mapping[str, Any],
    count: int,
    out: Outputs,
    batch: Batch,
) -> tuple[torch.Tensor, tuple[float, Mapping[str, tuple[float, float]]]]:
    loss = objective.loss(out, batch, shared)
    parts = [term / totals[name] for name, term in loss.terms.items()]
    parts += [extra / count for extra in out.model_losses.values()]
    value = torch.stack([part.float() for part in parts]).sum()
    return value, (float(value.detach()), loss.metrics)
