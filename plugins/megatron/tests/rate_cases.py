"""What layouts are put through where an initializer has rules for learning rates; spawned ranks import it by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmgraft.seams.parallelism import Engine, EnginePlan
from megatron_cases import RATE, Case, part

STEPS = 4
#: The model is twice as wide as the base; heads are twice as wide as the second one's.
RULES: dict[str, dict[str, Any]] = {
    "wider": {"base_hidden": 16, "std": 0.08},
    "wider_heads": {"base_hidden": 16, "base_head_dim": 4, "std": 0.08},
}


@dataclass(frozen=True)
class Ruled:
    """Each of these rules from its start; frozen rows beside, whose decay the distributed optimizer applies itself."""

    out: Path
    names: tuple[str, ...] = tuple(RULES)
    device: str = "cpu"

    def __call__(self, make_engine: Callable[[EnginePlan], Engine]) -> None:
        for name in self.names:
            self._train(make_engine(self.plan(name)), self.out / name)

    def plan(self, name: str) -> EnginePlan:
        optimizer = part("optimizer", "adamw", lr=RATE, weight_decay=10.0)
        return Case("llama").plan(
            initializer=part("initializer", "mup", **RULES[name]), optimizer=optimizer, frozen_rows=150
        )

    def _train(self, engine: Any, folder: Path) -> None:
        for step in range(STEPS):
            engine.forward_backward(Case("llama").share(step, *engine.data))
            engine.apply(RATE)
        if engine.main:
            folder.mkdir(parents=True)
        engine.save(folder)
