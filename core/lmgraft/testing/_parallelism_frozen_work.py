"""What layouts are asked where only some roles or layers are trained, or the first rows of a vocabulary are frozen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lmgraft.registry import build
from lmgraft.seams.architecture import Architecture, Role, TensorRole
from lmgraft.seams.objective import Batch
from lmgraft.seams.parallelism import Engine, EnginePlan
from lmgraft.testing import _parallelism_inputs as inputs
from lmgraft.testing._parallelism_inputs import Made, Setup
from lmgraft.testing._parallelism_parts import Plain

__all__ = ["CLIP", "FOLDERS", "KEPT", "STEPS", "Case", "Frozen", "cases", "resumed"]

STEPS = 4
#: The checkpoint that others go on from is written before this step.
KEPT = 2
#: A gradient is cut to it: by the norm of what is trained.
CLIP = 0.02


@dataclass(frozen=True)
class Case:
    """What is trained of which model."""

    name: str
    trainable: frozenset[Role]
    share: float = 0.0
    """Of the vocabulary's rows: so many are frozen. Above a half, the first of two ranks has none that is trained."""
    layers: tuple[int, ...] = ()
    """The layers that are trained, from the last one backwards where they are negative; empty: all."""
    slot: str = "architecture"
    precision: str = "float32"
    goes_on: bool = False
    """Its checkpoint is gone on from at every size."""

    @property
    def words(self) -> str:
        roles = ", ".join(sorted(role.value for role in self.trainable))
        told = [f"trainable={roles}"] if roles else []
        layers = ["the last" if number == -1 else str(number) for number in self.layers]
        told += [f"trainable_layers={', '.join(layers)}"] if layers else []
        told += [f"{self.share:.0%} of the rows frozen"] if self.share else []
        return " and ".join(told)

    def rows(self, setup: Setup) -> int:
        return int(self.share * setup.vocab_size)

    def architecture(self, setup: Setup) -> Architecture:
        made: Architecture = build(*setup.parts[self.slot])
        return made

    def numbers(self, setup: Setup) -> frozenset[int]:
        """The layers that are trained, as the plan has them."""
        if not self.layers:
            return frozenset()
        depth = _depth(_roles(self.architecture(setup), setup))
        return frozenset(number % depth for number in self.layers)

    def plan(self, setup: Setup, **changes: Any) -> EnginePlan:
        values: dict[str, Any] = {
            "architecture": self.architecture(setup),
            "precision": self.precision,
            "optimizer": Decaying(),
            "clip": None,  # one fault is blamed once: clipping has a check of its own
            "trainable": self.trainable,
            "frozen_rows": self.rows(setup),
            "trainable_layers": self.numbers(setup),
        }
        return setup.plan(**(values | changes))


_TABLES = frozenset({Role.EMBEDDING, Role.HEAD})
#: A model in two stages has one of which nothing is trained in the third and in the fourth.
CASES = (
    Case("rows", _TABLES, 0.6, goes_on=True),
    Case("tied", frozenset({Role.EMBEDDING}), 0.6, slot="learned", goes_on=True),
    Case("embedding", frozenset({Role.EMBEDDING})),
    Case("head", frozenset({Role.HEAD})),
    Case("layers", frozenset({Role.QUERY, Role.MLP_OUT, Role.NORM})),
    Case("few", frozenset(), 0.1),
    # Of a model in two stages one has no layer that is trained, and in the second case a part outside of all.
    Case("last", frozenset(), layers=(-1,), goes_on=True),
    Case("first", frozenset({Role.HEAD, Role.MLP_OUT, Role.NORM}), layers=(0,)),
    Case("half", _TABLES, 0.6, precision="bfloat16"),
)
FOLDERS = tuple(f"frozen-{case.name}-{when}" for case in CASES for when in ("start", "kept", "end", "model"))
FOLDERS += ("frozen-clipped-start", "frozen-clipped-end")


def cases(setup: Setup) -> Iterator[Case]:
    """Those that the suite's models can be asked: whose roles they have."""
    for case in CASES:
        if case.slot not in setup.parts:
            continue
        roles = _roles(case.architecture(setup), setup)
        there = {role.role for role in roles}
        if case.layers:
            if setup.layers and _depth(roles) and case.trainable <= there:
                yield case
        elif case.trainable & there if case.trainable else there & _TABLES:
            yield case


def _roles(architecture: Architecture, setup: Setup) -> list[TensorRole]:
    module = architecture.build(setup.vocab_size, "meta")
    return [architecture.role(name) for name, _ in module.named_parameters()]


def _depth(roles: Sequence[TensorRole]) -> int:
    return max((role.layer + 1 for role in roles if role.layer is not None), default=0)


class Decaying:
    """Moves whatever it is given, gradient or not: the decay of a step is a hundredth of a weight and more."""

    def peak(self) -> float:
        return inputs.RATE

    def build(self, parameters: Sequence[tuple[str, nn.Parameter, TensorRole]]) -> torch.optim.Optimizer:
        return torch.optim.AdamW([parameter for _, parameter, _ in parameters], lr=0.0, weight_decay=5.0)


@dataclass(frozen=True)
class Frozen:
    """Runs on each rank."""

    setup: Setup
    out: Path
    whole: bool
    """Each batch is one microbatch."""

    def __call__(self, make_engine: Made) -> dict[str, Any]:
        found = list(cases(self.setup))
        said: dict[str, Any] = {case.name: self._case(make_engine(case.plan(self.setup)), case) for case in found}
        if found:
            said["clipped"] = self._clipped(make_engine(found[0].plan(self.setup, optimizer=Plain(), clip=CLIP)))
        return said

    def _case(self, engine: Engine, case: Case) -> list[dict[str, float]]:
        rows = []
        engine.save(self._at(case, "start"))
        for step in range(STEPS):
            if step == KEPT:
                engine.save(self._at(case, "kept"))
            rows.append(inputs.plain(engine.forward_backward(self._share(engine, step))))
            engine.apply(inputs.RATE)
        engine.save(self._at(case, "end"))
        if case.goes_on:
            engine.export(self._at(case, "model"))
        return rows

    def _clipped(self, engine: Engine) -> float:
        """The norm of a gradient, of which a step of length 1 goes as far as it is long once it is clipped."""
        engine.save(self.out / "frozen-clipped-start")
        stats = engine.forward_backward(self._share(engine, 0))
        engine.apply(1.0)
        engine.save(self.out / "frozen-clipped-end")
        return float(stats.grad_norm)

    def _at(self, case: Case, when: str) -> Path:
        return self.out / f"frozen-{case.name}-{when}"

    def _share(self, engine: Engine, step: int) -> list[Batch]:
        own = inputs.share(self.setup, step, *engine.data)
        return [inputs.batch_of(own)] if self.whole else inputs.cuts(own)


def resumed(setup: Setup, outs: Mapping[str, Path], make_engine: Made) -> dict[str, dict[str, dict[str, float]]]:
    """Case -> writer of a checkpoint -> the figures of the steps after it; ``outs`` are the folders of the writers."""
    said: dict[str, dict[str, Any]] = {}
    for case in cases(setup):
        for writer, out in outs.items() if case.goes_on else ():
            engine = make_engine(case.plan(setup, seed=99))
            engine.load(out / f"frozen-{case.name}-kept")
            rows = []
            for step in (KEPT, KEPT + 1):
                batches = inputs.cuts(inputs.share(setup, step, *engine.data))
                rows.append(inputs.plain(engine.forward_backward(batches)))
                engine.apply(inputs.RATE)
            said.setdefault(case.name, {})[writer] = rows
    return said
