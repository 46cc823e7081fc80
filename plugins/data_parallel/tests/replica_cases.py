"""What one process and two replicas are put through alike; spawned ranks import it by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lmgraft.errors import Stopped
from lmgraft.registry import build, registry
from lmgraft.seams.architecture import Outputs
from lmgraft.seams.objective import Batch, Loss
from lmgraft.seams.parallelism import Engine, EnginePlan
from lmgraft.training import loop
from lmgraft.training.events import NoEvents
from safetensors.torch import save_file
from torch import nn

VOCABULARY, CONTEXT, RATE = 255, 32, 1e-3
SIZES = {"layers": 2, "hidden": 32, "heads": 4, "mlp": 48, "context": CONTEXT}
MORE: dict[str, dict[str, Any]] = {"llama": {"kv_heads": 2}, "gpt2": {}}
Made = Callable[[EnginePlan], Engine]


def part(seam: str, name: str, **settings: Any) -> Any:
    """A part as a recipe gets it: by its name, through the registry."""
    component = registry().get(seam, name).component
    return build(component, component.config(**settings))


class Routed(nn.Module):
    """A model with a loss of its own, as expert balance is one, and with weights that no forward pass reads."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.unread = nn.Parameter(torch.empty(3, device=next(inner.parameters()).device))

    def forward(self, tokens: torch.Tensor, **named: Any) -> Outputs:
        out: Outputs = self.inner(tokens, **named)
        if out.logprob is None:
            return out
        return replace(out, model_losses={"balance": 0.1 * out.logprob.square().mean()})


class RoutedArchitecture:
    """llama inside :class:`Routed`."""

    def __init__(self) -> None:
        self._inner = part("architecture", "llama", **SIZES, **MORE["llama"])

    def build(self, vocab_size: int, device: str = "meta") -> nn.Module:
        return Routed(self._inner.build(vocab_size, device))

    def role(self, name: str) -> Any:
        return self._inner.role("norm.weight" if name == "unread" else name.removeprefix("inner."))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Weighed:
    """Two terms, one of which a statistic of the whole batch weighs; a metric that not every microbatch has."""

    asks = frozenset({"logprob"})

    def normalizers(self, batch: Batch) -> dict[str, float]:
        return {"tokens": float(batch.weights.sum()), "rows": float(len(batch.tokens))}

    def prepare(self, out: Outputs, batch: Batch) -> dict[str, Any]:
        assert out.logprob is not None
        return {"sum": -(out.logprob * batch.weights).sum(), "count": float(batch.weights.sum())}

    def loss(self, out: Outputs, batch: Batch, shared: Mapping[str, Any]) -> Loss:
        assert out.logprob is not None
        tokens = -(out.logprob * batch.weights).sum()
        rows = (out.logprob * batch.weights).sum(1).square().sum() * 1e-3 * (shared["sum"] / shared["count"])
        metrics = {f"rows of {len(batch.tokens)}": (float(rows.detach()), float(len(batch.tokens)))}
        return Loss({"tokens": tokens, "rows": rows}, metrics)


@dataclass(frozen=True)
class Case:
    model: str
    objective: str = "causal_lm"
    steps: int = 20
    precision: str = "float32"

    def plan(self, **changes: Any) -> EnginePlan:
        routed = self.model == "routed"
        settings: dict[str, Any] = {
            "architecture": RoutedArchitecture()
            if routed
            else part("architecture", self.model, **SIZES, **MORE[self.model]),
            "vocab_size": VOCABULARY,
            "device": "cpu",
            "precision": self.precision,
            "seed": 5,
            "initializer": part("initializer", "normal", std=0.08),
            "objective": Weighed() if self.objective == "weighed" else part("objective", self.objective),
            "optimizer": part("optimizer", "adamw", lr=RATE),
            "clip": 1.0,
        }
        return EnginePlan(**(settings | changes))

    def units(self, step: int) -> list[Batch]:
        """The batch of a step: single rows, or pairs of a chosen and a rejected one, of 3 to 32 tokens."""
        generator = torch.Generator().manual_seed(1000 + step)
        rows = 2 if self.objective == "dpo" else 1
        lengths = torch.randint(3, CONTEXT + 1, (4, rows), generator=generator).tolist()
        return [_unit(lengths[unit], unit, self.objective, generator) for unit in range(4)]

    def share(self, step: int, rank: int, size: int) -> list[Batch]:
        """Uneven: of two ranks one has three units in two microbatches and the other one unit in one; at every third
        step the other has nothing to read, and at every fourth nothing to predict. One process reads all at once, but
        for a model whose own loss is defined by microbatch."""
        units = self.units(step)
        if step % 4 == 3:
            units[3].targets.fill_(-1)
            units[3].weights.zero_()
        cuts = [units[:2], units[2:3], units[3:]]
        if size == 2:
            mine = [cuts[:2], cuts[2:]] if step % 3 else [cuts, []]
            return [_stacked(cut) for cut in mine[rank]]
        return [_stacked(cut) for cut in (cuts if self.model == "routed" else [units])]

    # --- as the loop reads it ---

    def tokens(self, step: int) -> int:
        return 100

    def microbatches(self, step: int, rank: int, size: int, micro_batch: int | None) -> Sequence[Batch]:
        return self.share(step, rank, size)


def _unit(lengths: Sequence[int], unit: int, objective: str, generator: torch.Generator) -> Batch:
    """Rows padded to the longest; sft's and dpo's predictions begin within the row."""
    width = max(lengths)
    ids = torch.randint(0, VOCABULARY, (len(lengths), width + 1), generator=generator)
    column = torch.arange(width)[None]
    there = column < torch.tensor(lengths)[:, None]
    asked = there if objective in ("causal_lm", "weighed") else there & (column >= 1)
    references = {"reference": -4.0 * torch.tensor(lengths, dtype=torch.float32)} if objective == "dpo" else {}
    return Batch(
        tokens=ids[:, :-1].contiguous(),
        targets=ids[:, 1:].masked_fill(~asked, -1),
        weights=asked.float(),
        positions=column.expand(len(lengths), -1).contiguous(),
        segments=torch.where(there, 0, -1),
        unit=torch.full((len(lengths),), unit),
        role=torch.arange(len(lengths)),
        values=references,
    )


def _stacked(units: Sequence[Batch]) -> Batch:
    width = max(unit.tokens.shape[1] for unit in units)
    fills = {"tokens": 0, "targets": -1, "weights": 0, "positions": 0, "segments": -1}
    wide = {
        name: torch.cat(
            [nn.functional.pad(getattr(u, name), (0, width - u.tokens.shape[1]), value=fill) for u in units]
        )
        for name, fill in fills.items()
    }
    narrow: dict[str, Any] = {name: torch.cat([getattr(unit, name) for unit in units]) for name in ("unit", "role")}
    values = {name: torch.cat([unit.values[name] for unit in units]) for name in units[0].values}
    return Batch(**wide, **narrow, values=values)


@dataclass(frozen=True)
class Train:
    """Each case from its initial weights: losses, norms, metrics; gradients of the first and the last step; a
    checkpoint after the last but one; what every rank saw."""

    cases: dict[str, Case]
    out: Path
    device: str = "cpu"

    def __call__(self, make_engine: Made) -> None:
        for name, case in self.cases.items():
            self._train(make_engine(case.plan()), case, self.out / name)

    def _train(self, engine: Any, case: Case, folder: Path) -> None:
        if engine.main:
            (folder / "checkpoint").mkdir(parents=True)
        rank, size = engine.data
        rows = []
        for step in range(case.steps):
            if step == case.steps - 1:
                engine.save(folder / "checkpoint")
            stats = engine.forward_backward(case.share(step, rank, size))
            rows.append({"loss": stats.loss, "norm": stats.grad_norm, **stats.metrics})
            gradients = engine.gradients()
            if engine.main and step in (0, case.steps - 1):
                save_file({key: value.contiguous() for key, value in gradients.items()}, folder / f"grad{step}")
            engine.apply(RATE)
        (folder / f"rows{rank}.json").write_text(json.dumps({"rows": rows}))


@dataclass(frozen=True)
class Resume:
    """Goes on from a checkpoint for one step, after saving it again untouched."""

    case: Case
    checkpoint: Path
    out: Path
    device: str = "cpu"

    def __call__(self, make_engine: Made) -> None:
        engine = make_engine(self.case.plan(seed=99))
        engine.load(self.checkpoint)
        engine.save(self.out)
        rank, size = engine.data
        stats = engine.forward_backward(self.case.share(self.case.steps - 1, rank, size))
        engine.discard()
        if engine.main:
            (self.out / "loss.json").write_text(json.dumps(stats.loss))


class _Told(NoEvents):
    """Only the rank that holds it hears of the stop, after so many steps."""

    def __init__(self, folder: Path, after: int | None) -> None:
        super().__init__(folder)
        self._after, self._step = after, 0

    def progress(self, step: int, shown: Mapping[str, Any]) -> None:
        self._step = step

    def alive(self) -> None:
        if self._after is not None and self._step >= self._after:
            raise Stopped("heard by one rank")


@dataclass(frozen=True)
class Loop:
    """The training loop; the last rank alone hears that it is to stop after ``stop`` steps. Each rank writes down how
    far it came."""

    case: Case
    out: Path
    stop: int | None = None
    blind: bool = False
    """The last rank looks for checkpoints where there are none."""
    device: str = "cpu"

    def __call__(self, make_engine: Made) -> None:
        engine: Any = make_engine(self.case.plan())
        rank, size = engine.data
        events = _Told(self.out, self.stop if rank == size - 1 else None)
        plan = loop.LoopPlan(
            steps=self.case.steps,
            peak=RATE,
            factor=lambda step, steps: 1.0,
            seed=1,
            checkpoints=self.out / ("elsewhere" if self.blind and rank else "checkpoints"),
        )
        try:
            loop.train(engine, self.case, None, plan, events)
        except Stopped:
            (self.out / f"stopped{rank}").write_text(str(events._step))
            return
        if engine.main:
            engine.save(self.out)
