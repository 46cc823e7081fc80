"""What layouts are shown: the parts of a plan, batches and how they are dealt, and how an engine is asked of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from lmgraft.component import Component, ComponentConfig
from lmgraft.registry import build
from lmgraft.seams.objective import Batch
from lmgraft.seams.parallelism import Engine, EnginePlan, StepStats

__all__ = [
    "FIRST",
    "ONCE",
    "OTHER",
    "PACKED",
    "RATE",
    "SCORED",
    "Made",
    "Setup",
    "batch_of",
    "cuts",
    "dealt",
    "padding",
    "plain",
    "row",
    "rows_of",
    "scored",
    "share",
    "silenced",
    "unsound",
]

Made = Callable[[EnginePlan], Engine]

ROWS = 7
RATE = 3e-3
#: Batches beside those of the steps.
ONCE, FIRST, OTHER, SCORED, PACKED = 20, 21, 22, 23, 24


@dataclass(frozen=True)
class Setup:
    """The parts of a plan, which each rank builds for itself."""

    parts: Mapping[str, tuple[Component[Any], ComponentConfig]]
    """Seam -> part; ``learned``, where it is there, is an architecture to whose answers absolute positions matter."""
    vocab_size: int
    length: int
    """Of the longest row."""
    asks: frozenset[str]
    device: str = "cpu"
    layers: bool = True
    """The layout is of an API that has ``EnginePlan.trainable_layers``."""

    def plan(self, **changes: Any) -> EnginePlan:
        values: dict[str, Any] = {seam: build(*part) for seam, part in self.parts.items() if seam != "learned"}
        values |= {"vocab_size": self.vocab_size, "device": self.device, "precision": "float32", "seed": 5}
        return EnginePlan(**{**values, "clip": 0.5, **changes})


# --- batches ----------------------------------------------------------------------------------------------------------


def rows_of(setup: Setup, step: int) -> list[Batch]:
    """The rows of a step, each of its own length; one holds nothing to predict."""
    generator = torch.Generator().manual_seed(1000 + step)
    lengths = torch.randint(3, setup.length + 1, (ROWS,), generator=generator).tolist()
    rows = [row(setup, length, generator) for length in lengths]
    return [silenced(one) if number == 4 else one for number, one in enumerate(rows)]


def share(setup: Setup, step: int, rank: int, size: int) -> list[Batch]:
    """The rows of one data rank, evened out with padding."""
    return dealt(setup, rows_of(setup, step), rank, size)


def dealt(setup: Setup, rows: Sequence[Batch], rank: int, size: int) -> list[Batch]:
    """One data rank's share of these rows; all ranks have equally many."""
    return [*rows, *[padding(setup)] * (-len(rows) % size)][rank::size]


def padding(setup: Setup) -> Batch:
    """A row of nothing."""
    found = silenced(row(setup, 3, torch.Generator().manual_seed(0)))
    return replace(found, segments=torch.full_like(found.tokens, -1))


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


def row(setup: Setup, length: int, generator: torch.Generator) -> Batch:
    """One document of random ids."""
    ids = torch.randint(0, setup.vocab_size, (1, length + 1), generator=generator)
    return Batch(
        tokens=ids[:, :-1].contiguous(),
        targets=ids[:, 1:].clone(),
        weights=torch.ones(1, length),
        positions=torch.arange(length)[None],
        segments=torch.zeros(1, length, dtype=torch.int64),
    )


def silenced(row: Batch) -> Batch:
    """The row with nothing to predict."""
    return replace(row, targets=torch.full_like(row.targets, -1), weights=torch.zeros_like(row.weights))


# --- asking -----------------------------------------------------------------------------------------------------------


def scored(setup: Setup, engine: Engine, rows: Sequence[Batch] = ()) -> list[list[float]]:
    """Log-probabilities of ``rows``, or of three that all data ranks score, in batches of two."""
    rows, found = rows or rows_of(setup, SCORED)[:3], []
    for _, out in engine.score(_batches(rows), frozenset({"logprob"})):
        assert out.logprob is not None, "an engine gives what it is asked for"
        found += out.logprob.float().tolist()
    return found


def unsound(setup: Setup, engine: Engine) -> dict[str, list[str]]:
    """Which answers of ``score`` a gradient could go back through, and which are no float32."""
    rows = rows_of(setup, SCORED)[:1]
    ((_, out),) = list(engine.score(_batches(rows), setup.asks))
    answers = {ask: getattr(out, ask) for ask in sorted(setup.asks)}
    numbers = {ask: answer for ask, answer in answers.items() if ask != "greedy"}
    return {
        "graph": [ask for ask, answer in answers.items() if answer.requires_grad],
        "narrow": [f"{ask} in {answer.dtype}" for ask, answer in numbers.items() if answer.dtype != torch.float32],
    }


def _batches(rows: Sequence[Batch]) -> Iterator[Batch]:
    for first in range(0, len(rows), 2):
        yield batch_of(rows[first : first + 2])


def plain(stats: StepStats) -> dict[str, float]:
    """A step's figures by name."""
    return {"loss": float(stats.loss), "grad_norm": float(stats.grad_norm), **stats.metrics}
