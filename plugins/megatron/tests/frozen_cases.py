"""What layouts are put through where parts of a model are frozen; spawned ranks import it by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lmgraft.seams.architecture import Role
from lmgraft.seams.parallelism import Engine, EnginePlan
from megatron_cases import RATE, Case

#: Of 255 rows; split in two, the first half has none that is trained.
ROWS = 150
STEPS, KEPT = 4, 2
#: The distributed optimizer takes fused matrices whole.
PARTS_OF_MATRICES = ("query",)
TABLES = frozenset({Role.EMBEDDING, Role.HEAD})
#: Of two layers, numbered through the whole model: with two stages the second one's first.
LAST = frozenset({1})


class Decaying:
    """Moves all that it is given."""

    def peak(self) -> float:
        return RATE

    def build(self, parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW([one for _, one, _ in parameters], lr=0.0, weight_decay=5.0)


@dataclass(frozen=True)
class Frozen:
    case: Case
    trainable: frozenset[Role]
    rows: int = 0
    layers: frozenset[int] = frozenset()

    def plan(self, **changes: Any) -> EnginePlan:
        own = {"trainable": self.trainable, "frozen_rows": self.rows, "optimizer": Decaying(), "clip": 0.1}
        return self.case.plan(**(own | {"trainable_layers": self.layers} | changes))

    def first(self, name: str, rows: int) -> int:
        """The first row of a tensor that is trained."""
        role = self.plan().architecture.role(name)
        if self.trainable and role.role not in self.trainable:
            return rows
        if self.layers and role.layer not in self.layers and not (role.layer is None and self.trainable):
            return rows
        return self.rows if role.role in TABLES else 0


FROZEN = {
    "rows": Frozen(Case("llama"), TABLES, ROWS),
    "tied": Frozen(Case("llama_tied"), frozenset({Role.EMBEDDING}), ROWS),
    "tied_layers": Frozen(Case("llama_tied"), frozenset({Role.ATTENTION_OUT, Role.NORM})),
    "embedding": Frozen(Case("llama"), frozenset({Role.EMBEDDING})),
    "head": Frozen(Case("gpt2_bare"), frozenset({Role.HEAD})),
    "attention": Frozen(Case("gpt2"), frozenset({Role.QUERY, Role.KEY, Role.VALUE, Role.BIAS})),
    "few": Frozen(Case("llama"), frozenset(), 20),
    "half": Frozen(Case("llama", precision="bfloat16"), TABLES, ROWS),
    "query": Frozen(Case("llama"), frozenset({Role.QUERY})),
    "last_layers": Frozen(Case("llama"), frozenset(), 0, LAST),
    "first_layer": Frozen(Case("gpt2"), frozenset({Role.QUERY, Role.KEY, Role.VALUE, Role.BIAS}), 0, frozenset({0})),
    "tied_and_last": Frozen(Case("llama_tied"), frozenset({Role.EMBEDDING, Role.MLP_OUT}), ROWS, LAST),
    "half_last": Frozen(Case("llama", precision="bfloat16"), frozenset(), 0, LAST),
    "half_layers": Frozen(Case("llama_tied", precision="bfloat16"), frozenset({Role.MLP_OUT})),
}


@dataclass(frozen=True)
class Freeze:
    """Each case from its start: figures, and checkpoints of the start, of a step between and of the end."""

    out: Path
    names: tuple[str, ...] = tuple(FROZEN)
    device: str = "cpu"

    def __call__(self, make_engine: Callable[[EnginePlan], Engine]) -> None:
        for name in self.names:
            self._train(make_engine(FROZEN[name].plan()), FROZEN[name], self.out / name)

    def _train(self, engine: Any, frozen: Frozen, folder: Path) -> None:
        figures = []
        for step in range(STEPS):
            if step in (0, KEPT):
                self._save(engine, folder / str(step))
            stats = engine.forward_backward(frozen.case.share(step, *engine.data))
            figures.append([stats.loss, stats.grad_norm])
            engine.apply(RATE)
        self._save(engine, folder / str(STEPS))
        if engine.main:
            (folder / "figures.json").write_text(json.dumps(figures))

    def _save(self, engine: Any, folder: Path) -> None:
        if engine.main:
            folder.mkdir(parents=True)
        engine.save(folder)


@dataclass(frozen=True)
class GoOn:
    """Each checkpoint, another layout's, is saved again untouched and goes on for two steps."""

    sources: tuple[Path, ...]
    """Folders of :class:`Freeze`; what is said of one lies under its name in ``out``."""
    out: Path
    names: tuple[str, ...]
    device: str = "cpu"

    def __call__(self, make_engine: Callable[[EnginePlan], Engine]) -> None:
        for source in self.sources:
            for name in self.names:
                if (source / name).is_dir():
                    self._go_on(make_engine(FROZEN[name].plan(seed=99)), name, source)

    def _go_on(self, engine: Any, name: str, source: Path) -> None:
        frozen, figures, folder = FROZEN[name], [], self.out / source.name / name
        engine.load(source / name / str(KEPT))
        if engine.main:
            folder.mkdir(parents=True)
        engine.save(folder)
        for step in range(KEPT, STEPS):
            stats = engine.forward_backward(frozen.case.share(step, *engine.data))
            figures.append([stats.loss, stats.grad_norm])
            engine.apply(RATE)
        if engine.main:
            (folder / "figures.json").write_text(json.dumps(figures))
