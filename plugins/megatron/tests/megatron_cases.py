"""What every layout is put through, in processes of its own: models, batches, twenty steps, files. Importable by name,
since spawned ranks import it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from lmgraft.registry import build, registry
from lmgraft.seams.architecture import Outputs
from lmgraft.seams.objective import Batch, Loss
from lmgraft.seams.parallelism import Engine, EnginePlan, Sampling
from safetensors.torch import save_file

VOCABULARY, CONTEXT, RATE = 255, 32, 1e-3
SIZES = {"layers": 2, "hidden": 32, "heads": 4, "mlp": 48, "context": CONTEXT}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {**SIZES, "kv_heads": 2}),
    "llama_tied": ("llama", {**SIZES, "kv_heads": 4, "tied": True}),
    "llama_bare": ("llama", {**SIZES, "kv_heads": 2, "norm": "none"}),
    "gpt2": ("gpt2", SIZES),
    "gpt2_bare": ("gpt2", {**SIZES, "norm": "none", "tied": False}),
    # One key head for both ranks of tensor=2, one norm for both halves of a block; then a norm and a key head each.
    "falcon": ("falcon", {**SIZES, "kv_heads": 1}),
    "falcon_two": ("falcon", {**SIZES, "kv_heads": 2, "new_decoder": True, "shared_norm": False, "bias": True}),
    "window": ("llama", {**SIZES, "kv_heads": 1, "window": 5}),
    "stretched": ("llama", {**SIZES, "kv_heads": 2, "rope_scaling": {"kind": "linear", "factor": 4.0}}),
}


def part(seam: str, name: str, **settings: Any) -> Any:
    """A part as a recipe gets it: by its name, through the registry."""
    component = registry().get(seam, name).component
    return build(component, component.config(**_typed(component.config(), settings)))


def _typed(defaults: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Words as the enumerations, and mappings as the settings, that a config has there."""
    found = {}
    for key, value in settings.items():
        kind = type(getattr(defaults, key))
        if isinstance(value, Mapping):
            found[key] = kind(**_typed(kind(), value))
        else:
            found[key] = kind(value) if issubclass(kind, Enum) else value
    return found


class Everything:
    """Asks all that can be asked, in two terms, weighed by a statistic of the whole batch."""

    asks = frozenset({"logprob", "logsumexp", "entropy", "vocab_mean", "greedy"})

    def normalizers(self, batch: Batch) -> dict[str, float]:
        return {"tokens": float(batch.weights.sum()), "rows": float(len(batch.tokens))}

    def prepare(self, out: Outputs, batch: Batch) -> dict[str, Any]:
        assert out.logprob is not None
        assert not out.logprob.requires_grad
        return {"sum": -(out.logprob * batch.weights).sum(), "count": float(batch.weights.sum())}

    def loss(self, out: Outputs, batch: Batch, shared: Mapping[str, Any]) -> Loss:
        assert out.logprob is not None
        assert out.logsumexp is not None
        assert out.entropy is not None
        assert out.vocab_mean is not None
        assert out.greedy is not None
        mean = shared["sum"] / shared["count"]
        there = batch.weights > 0
        tokens = -((out.logprob - 0.1 * out.entropy) * batch.weights).sum()
        drift = (out.logsumexp.square() - 0.3 * out.vocab_mean).masked_fill(~there, 0.0).sum(1)
        right = float((out.greedy & there).sum())
        return Loss({"tokens": tokens, "rows": (drift * mean).sum()}, {"right": (right, float(there.sum()))})


@dataclass(frozen=True)
class Case:
    """One model under one objective."""

    model: str
    objective: str = "causal_lm"
    steps: int = 20
    precision: str = "float32"

    def plan(self, **changes: Any) -> EnginePlan:
        architecture, sizes = MODELS[self.model]
        settings: dict[str, Any] = {
            "architecture": part("architecture", architecture, **sizes),
            "vocab_size": VOCABULARY,
            "device": "cpu",
            "precision": self.precision,
            "seed": 5,
            "initializer": part("initializer", "normal", std=0.08),
            "objective": Everything() if self.objective == "everything" else part("objective", self.objective),
            "optimizer": part("optimizer", "adamw", lr=RATE),
            "clip": 1.0,
        }
        return EnginePlan(**(settings | changes))

    def rows(self, step: int) -> list[Batch]:
        """The batch of a step as units: single rows, or pairs of a chosen and a rejected one."""
        paired = self.objective == "dpo"
        generator = torch.Generator().manual_seed(1000 + step)
        units = []
        for unit in range(4):
            lengths = torch.randint(3, CONTEXT + 1, (2 if paired else 1,), generator=generator).tolist()
            units.append(_unit(lengths, unit, self.objective, generator))
        return units

    def share(self, step: int, rank: int, size: int) -> list[Batch]:
        """The microbatches of one data rank; uneven: 1 unit, then the rest."""
        mine = self.rows(step)[rank::size]
        return [_stacked(mine[:1]), *([_stacked(mine[1:])] if mine[1:] else [])]


def _unit(lengths: Sequence[int], unit: int, objective: str, generator: torch.Generator) -> Batch:
    """Rows of different lengths, padded to their own longest; weights start within the row for sft and dpo."""
    width = max(lengths)
    ids = torch.randint(0, VOCABULARY, (len(lengths), width + 1), generator=generator)
    there = torch.arange(width)[None] < torch.tensor(lengths)[:, None]
    segments = torch.where(there, 0, -1)
    positions = torch.arange(width).expand(len(lengths), -1).contiguous()
    asked = there
    if objective == "causal_lm" and width > 6:
        # Two documents in one row, as packed text has them.
        cut = width // 3
        segments = torch.where((torch.arange(width) >= cut) & there, 1, segments)
        positions = torch.where(torch.arange(width) >= cut, positions - cut, positions)
    if objective != "causal_lm":
        asked = there & (torch.arange(width) >= 1)[None]
    return Batch(
        tokens=ids[:, :-1].contiguous(),
        targets=ids[:, 1:].masked_fill(~asked, -1),
        weights=asked.float(),
        positions=positions,
        segments=segments,
        unit=torch.full((len(lengths),), unit),
        role=torch.arange(len(lengths)),
        values={"reference": -4.0 * torch.tensor(lengths, dtype=torch.float32)} if objective == "dpo" else {},
    )


def _stacked(units: Sequence[Batch]) -> Batch:
    width = max(unit.tokens.shape[1] for unit in units)

    def wide(tensor: torch.Tensor | None, fill: float) -> torch.Tensor:
        assert tensor is not None
        return torch.nn.functional.pad(tensor, (0, width - tensor.shape[1]), value=fill)

    return Batch(
        tokens=torch.cat([wide(unit.tokens, 0) for unit in units]),
        targets=torch.cat([wide(unit.targets, -1) for unit in units]),
        weights=torch.cat([wide(unit.weights, 0) for unit in units]),
        positions=torch.cat([wide(unit.positions, 0) for unit in units]),
        segments=torch.cat([wide(unit.segments, -1) for unit in units]),
        unit=torch.cat([unit.unit for unit in units if unit.unit is not None]),
        role=torch.cat([unit.role for unit in units if unit.role is not None]),
        values={name: torch.cat([unit.values[name] for unit in units]) for name in units[0].values},
    )


Made = Callable[[EnginePlan], Engine]


@dataclass(frozen=True)
class Train:
    """Each case from its initial weights: losses, norms, the gradients of the first and the last step, a checkpoint
    after the last but one, and a model folder. ``device`` is what a layout looks for."""

    cases: dict[str, Case]
    out: Path
    device: str = "cpu"

    def __call__(self, make_engine: Made) -> None:
        for name, case in self.cases.items():
            self._train(make_engine(case.plan()), case, self.out / name)

    def _train(self, engine: Any, case: Case, folder: Path) -> None:
        if engine.main:
            folder.mkdir(parents=True)
            (folder / "checkpoint").mkdir()
        rank, size = engine.data
        rows = []
        for step in range(case.steps):
            if step == case.steps - 1:
                engine.save(folder / "checkpoint")
            stats = engine.forward_backward(case.share(step, rank, size))
            rows.append({"loss": stats.loss, "norm": stats.grad_norm, **stats.metrics})
            if step in (0, case.steps - 1):
                gradients = engine.gradients()
                if engine.main:
                    save_file({key: value.contiguous() for key, value in gradients.items()}, folder / f"grad{step}")
            engine.apply(RATE)
        engine.export(folder / "model")
        if engine.main:
            (folder / "rows.json").write_text(json.dumps(rows))


@dataclass(frozen=True)
class Resume:
    """Each checkpoint goes on for one step, and is saved again untouched."""

    checkpoints: dict[str, tuple[Case, Path]]
    out: Path
    device: str = "cpu"

    def __call__(self, make_engine: Made) -> None:
        losses = {}
        for name, (case, folder) in self.checkpoints.items():
            engine: Any = make_engine(case.plan(seed=99))
            engine.load(folder)
            if engine.main:
                (self.out / name).mkdir(parents=True)
            engine.save(self.out / name)
            rank, size = engine.data
            first = engine.forward_backward(case.share(case.steps - 1, rank, size))
            engine.apply(RATE)
            second = engine.forward_backward(case.share(case.steps, rank, size))
            engine.discard()
            losses[name] = [first.loss, second.loss]
        if engine.main:
            (self.out / "losses.json").write_text(json.dumps(losses))


@dataclass(frozen=True)
class Ask:
    """Scores and text from model folders, and the folders written again."""

    models: dict[str, Path]
    """A name of :data:`MODELS` -> its folder."""
    out: Path
    device: str = "cpu"

    def __call__(self, make_engine: Made) -> None:
        for name, folder in self.models.items():
            case = Case(name)
            plan = replace(case.plan(initializer=None, objective=None, optimizer=None), weights=folder)
            engine: Any = make_engine(plan)
            out = self.out / name
            if engine.main:
                out.mkdir(parents=True)
            engine.export(out / "model")
            self._ask(engine, case, out)

    def _ask(self, engine: Any, case: Case, folder: Path) -> None:
        handle = engine.handle()
        requests = [([3, 5], [7, 9, 11]), ([1], list(range(20))), ([2, 4, 6], [8])]
        scored = handle.score(requests)
        texts = [
            list(handle.generate([1, 2, 3], Sampling(max_new_tokens=6, temperature=0))),
            list(handle.generate([9], Sampling(max_new_tokens=6, temperature=1.0, seed=3))),
        ]
        asks = frozenset({"logprob", "logsumexp", "entropy", "vocab_mean", "greedy"})
        found: dict[str, torch.Tensor] = {}
        for number, (_, out) in enumerate(engine.score(iter(case.share(0, 0, 1)), asks)):
            found |= {f"{number}.{ask}": getattr(out, ask).float().contiguous() for ask in asks}
        if engine.main:
            save_file(found, folder / "answers")
            words = {"logprobs": [s.logprobs for s in scored], "greedy": [s.greedy for s in scored], "texts": texts}
            (folder / "asked.json").write_text(json.dumps(words))
