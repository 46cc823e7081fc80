"""What every layout is put through: work that a parallelism part runs on its ranks, which import it by name.

Ranks answer through files only: ``rank-*.json`` each, and what the engine itself writes on its main rank.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lmgraft.component import Component, ComponentConfig
from lmgraft.registry import build
from lmgraft.seams.objective import Batch
from lmgraft.seams.parallelism import Engine, EnginePlan, Sampling, StepStats

__all__ = ["FOLDERS", "KEPT", "STEPS", "Exam", "Resume", "Setup", "Short", "batch_of", "cuts", "rows_of", "share"]

Made = Callable[[EnginePlan], Engine]

STEPS = 4
#: The checkpoint is written before this step.
KEPT = 2
ROWS = 7
RATE = 3e-3
#: What a layout writes checkpoints to; they are there before it is launched.
FOLDERS = ("start", "checkpoint", "end", "once")
#: Batches beside those of the steps.
ONCE, FIRST, OTHER, SCORED = 20, 21, 22, 23


@dataclass(frozen=True)
class Setup:
    """The parts of a plan, which each rank builds for itself."""

    parts: Mapping[str, tuple[Component[Any], ComponentConfig]]
    vocab_size: int
    length: int
    """Of the longest row."""
    asks: frozenset[str]
    device: str = "cpu"

    def plan(self, **changes: Any) -> EnginePlan:
        values: dict[str, Any] = {seam: build(component, config) for seam, (component, config) in self.parts.items()}
        values |= {"vocab_size": self.vocab_size, "device": self.device, "precision": "float32", "seed": 5}
        return EnginePlan(**{**values, "clip": 0.5, **changes})


# --- batches ----------------------------------------------------------------------------------------------------------


def rows_of(setup: Setup, step: int) -> list[Batch]:
    """The rows of a step, each of its own length; one holds nothing to predict."""
    generator = torch.Generator().manual_seed(1000 + step)
    lengths = torch.randint(3, setup.length + 1, (ROWS,), generator=generator).tolist()
    return [_row(setup, length, generator, silent=number == 4) for number, length in enumerate(lengths)]


def share(setup: Setup, step: int, rank: int, size: int) -> list[Batch]:
    """The rows of one data rank, evened out with padding."""
    rows = rows_of(setup, step)
    padding = _row(setup, 3, torch.Generator().manual_seed(0), silent=True)
    assert padding.segments is not None
    padding.segments.fill_(-1)
    rows += [padding] * (-len(rows) % size)
    return rows[rank::size]


def cuts(rows: Sequence[Batch]) -> list[Batch]:
    """Three uneven microbatches, or as many as there are rows."""
    first, second = 1, 1 + max(1, len(rows) // 3)
    return [batch_of(part) for part in (rows[:first], rows[first:second], rows[second:]) if part]


def batch_of(rows: Sequence[Batch]) -> Batch:
    """Rows as one microbatch, padded to the longest."""
    width = max(row.tokens.shape[1] for row in rows)
    fills = {"tokens": 0, "targets": -1, "weights": 0, "positions": 0, "segments": -1}
    wide = {
        name: torch.cat(
            [torch.nn.functional.pad(getattr(row, name), (0, width - row.tokens.shape[1]), value=fill) for row in rows]
        )
        for name, fill in fills.items()
    }
    narrow = {"unit": torch.arange(len(rows)), "role": torch.zeros(len(rows), dtype=torch.int64)}
    return Batch(**wide, **narrow)  # type: ignore[arg-type]


def _row(setup: Setup, length: int, generator: torch.Generator, *, silent: bool) -> Batch:
    ids = torch.randint(0, setup.vocab_size, (1, length + 1), generator=generator)
    targets, weights = ids[:, 1:].clone(), torch.ones(1, length)
    if silent:
        targets.fill_(-1)
        weights.zero_()
    return Batch(
        tokens=ids[:, :-1].contiguous(),
        targets=targets,
        weights=weights,
        positions=torch.arange(length)[None],
        segments=torch.zeros(1, length, dtype=torch.int64),
    )


# --- work -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exam:
    """A few steps from the first weights, a checkpoint, a model folder, and what is asked of an engine beside them."""

    setup: Setup
    out: Path
    whole: bool = False
    """Each step's batch is one microbatch: the sum that all others are compared with."""
    device: str = "cpu"

    def __call__(self, make_engine: Made) -> None:
        said: dict[str, Any] = {}
        said |= self._steps(make_engine(self.setup.plan()))
        said["once"] = self._once(make_engine(self.setup.plan()))
        said |= self._discarded(make_engine(self.setup.plan()))
        _write(self.out, said)

    def _microbatches(self, engine: Engine, step: int) -> list[Batch]:
        rows = share(self.setup, step, *engine.data)
        return [batch_of(rows)] if self.whole else cuts(rows)

    def _steps(self, engine: Engine) -> dict[str, Any]:
        engine.save(self.out / "start")
        rows = []
        for step in range(STEPS):
            if step == KEPT:
                engine.save(self.out / "checkpoint")
            rows.append(_plain(engine.forward_backward(self._microbatches(engine, step))))
            engine.apply(RATE)
        engine.save(self.out / "end")
        engine.export(self.out / "model")
        (rank, size), main = engine.data, engine.main
        return {
            "data": [rank, size],
            "main": main,
            "steps": rows,
            "parameters": {name: list(shape) for name, shape in engine.parameters().items()},
            "agreed": [engine.agree(main), engine.agree(rank == size - 1), engine.agree(False)],
            "vocabulary": self._vocabulary(engine),
            "scored": _scored(self.setup, engine),
        }

    def _vocabulary(self, engine: Engine) -> dict[str, Any]:
        """Four positions under every id of the vocabulary as their target."""
        size = self.setup.vocab_size
        row = rows_of(self.setup, SCORED)[0].tokens[:, :1].expand(size, 4) + torch.arange(4)
        batch = Batch(
            tokens=(row % size).contiguous(),
            targets=torch.arange(size)[:, None].expand(size, 4).contiguous(),
            weights=torch.ones(size, 4),
            positions=torch.arange(4).expand(size, 4).contiguous(),
            segments=torch.zeros(size, 4, dtype=torch.int64),
        )
        ((_, out),) = list(engine.score(iter([batch]), self.setup.asks))
        assert out.logprob is not None, "an engine gives what it is asked for"
        held = {ask: getattr(out, ask)[0].float().tolist() for ask in sorted(self.setup.asks - {"logprob", "greedy"})}
        return {"sum": out.logprob.double().exp().sum(0).tolist(), **held}

    def _once(self, engine: Engine) -> dict[str, Any]:
        stats = _plain(engine.forward_backward(self._microbatches(engine, ONCE)))
        engine.apply(RATE)
        engine.save(self.out / "once")
        return stats

    def _discarded(self, engine: Engine) -> dict[str, Any]:
        before = _scored(self.setup, engine)
        found = []
        for step in (FIRST, OTHER, FIRST):
            found.append(_plain(engine.forward_backward(self._microbatches(engine, step))))
            engine.discard()
        said = {"first": found[0], "again": found[2], "before": before, "after": _scored(self.setup, engine)}
        return said | ({"parts": self._parts(engine)} if self.whole else {})

    def _parts(self, engine: Engine) -> dict[str, float]:
        """The loss of the batch of :meth:`_once` with microbatches left out, to name what an engine forgot."""
        one, two, three = cuts(rows_of(self.setup, ONCE))
        left = {"the last": [one, two], "the first": [two, three], "all but the first": [one]}
        left |= {"all but the last": [three]}
        found = {}
        for words, kept in left.items():
            found[words] = engine.forward_backward(kept).loss
            engine.discard()
        return found


@dataclass(frozen=True)
class Resume:
    """Goes on from checkpoints for two steps, and asks a model that it starts from a folder."""

    setup: Setup
    checkpoints: Mapping[str, Path]
    model: Path
    out: Path
    device: str = "cpu"

    def __call__(self, make_engine: Made) -> None:
        said: dict[str, Any] = {"resumed": {}}
        for name, folder in self.checkpoints.items():
            engine = make_engine(self.setup.plan(seed=99))
            engine.load(folder)
            rows = []
            for step in (KEPT, KEPT + 1):
                rows.append(_plain(engine.forward_backward(cuts(share(self.setup, step, *engine.data)))))
                engine.apply(RATE)
            said["resumed"][name] = rows
        asking = self.setup.plan(weights=self.model, initializer=None, objective=None, optimizer=None)
        said |= self._handle(make_engine(asking))
        _write(self.out, said)

    def _handle(self, engine: Engine) -> dict[str, Any]:
        handle = engine.handle()
        ids = [number % self.setup.vocab_size for number in range(handle.context + 1)]
        requests = [([3, 5], [7, 9, 11]), (ids[:1], ids[1:]), ([2, 4, 6], [8])]
        scored = handle.score(requests)
        ways = (Sampling(max_new_tokens=6, temperature=0), Sampling(max_new_tokens=6, temperature=1.0, seed=3))
        return {
            "context": handle.context,
            "logprobs": [one.logprobs for one in scored],
            "greedy": [[bool(flag) for flag in one.greedy] for one in scored],
            "texts": [list(handle.generate([1, 2, 3], way)) for way in ways],
        }


@dataclass(frozen=True)
class Short:
    """Two steps: what is compared bit for bit between two builds of one layout."""

    setup: Setup
    out: Path
    device: str = "cpu"

    def __call__(self, make_engine: Made) -> None:
        engine, rows = make_engine(self.setup.plan()), []
        for step in range(2):
            rows.append(_plain(engine.forward_backward(cuts(share(self.setup, step, *engine.data)))))
            engine.apply(RATE)
        _write(self.out, {"data": list(engine.data), "steps": rows, "scored": _scored(self.setup, engine)})


def _scored(setup: Setup, engine: Engine) -> list[list[float]]:
    """Log-probabilities of three rows in two batches, which all data ranks score."""
    rows = rows_of(setup, SCORED)[:3]
    found: list[list[float]] = []
    for _, out in engine.score(_batches([rows[:2], rows[2:]]), frozenset({"logprob"})):
        assert out.logprob is not None, "an engine gives what it is asked for"
        found += out.logprob.float().tolist()
    return found


def _batches(parts: Sequence[Sequence[Batch]]) -> Iterator[Batch]:
    for part in parts:
        yield batch_of(part)


def _plain(stats: StepStats) -> dict[str, float]:
    return {"loss": float(stats.loss), "grad_norm": float(stats.grad_norm), **stats.metrics}


def _write(folder: Path, said: Mapping[str, Any]) -> None:
    (folder / f"rank-{uuid.uuid4().hex}.json").write_text(json.dumps(said), encoding="utf-8")
