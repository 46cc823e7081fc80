"""What an engine is asked beside its steps: a rule of the seam in each scene, with an engine of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lmgraft.registry import build
from lmgraft.seams.objective import Batch
from lmgraft.seams.parallelism import Engine
from lmgraft.testing import _parallelism_inputs as inputs
from lmgraft.testing._parallelism_inputs import Made
from lmgraft.testing._parallelism_parts import Grouped, Plain, Prepared, Ruled, Watched
from lmgraft.training import weights

__all__ = ["CLIP", "FOLDERS", "Scenes"]

#: What the scenes' engines write to.
FOLDERS = ("scaled-start", "scaled", "clipped-start", "clipped", "half")
#: To which a gradient is cut; much shorter than those of the kit's batches.
CLIP = 0.05
#: Batches beside those of the inputs.
PACKED = 24


@dataclass(frozen=True)
class Scenes:
    """Runs on each rank."""

    setup: inputs.Setup
    out: Path
    whole: bool
    """Each batch is one microbatch."""

    def __call__(self, make_engine: Made) -> dict[str, Any]:
        return {
            "scaled": self._scaled(make_engine),
            "clipped": self._clipped(make_engine(self.setup.plan(clip=CLIP, optimizer=Plain()))),
            "losses": self._losses(make_engine),
            "prepared": self._prepared(make_engine, "float32"),
            "half": self._prepared(make_engine, "bfloat16"),
            "silent": self._silent(make_engine(self.setup.plan())),
            "packed": self._packed(make_engine) if "learned" in self.setup.parts else {},
        }

    def _scaled(self, make_engine: Made) -> dict[str, Any]:
        plan = self.setup.plan(clip=None)
        assert plan.optimizer is not None, "the kit's plans have one"
        assert plan.initializer is not None, "the kit's plans have one"
        initializer = Ruled(plan.initializer)
        module = plan.architecture.build(plan.vocab_size, "meta")
        shapes = {name: parameter.shape for name, parameter in module.named_parameters()}
        optimizer = Grouped(plan.optimizer, weights.tensor_roles(plan.architecture, initializer, shapes))
        engine = make_engine(replace(plan, optimizer=optimizer, initializer=initializer))
        engine.save(self.out / "scaled-start")
        engine.forward_backward(self._cut(engine, inputs.rows_of(self.setup, inputs.ONCE)))
        engine.apply(inputs.RATE)
        engine.save(self.out / "scaled")
        return {"misled": optimizer.misled, "unruled": optimizer.unruled}

    def _clipped(self, engine: Engine) -> float:
        """The norm of the gradient that a step of length 1 was made of."""
        engine.save(self.out / "clipped-start")
        stats = engine.forward_backward(self._cut(engine, inputs.rows_of(self.setup, inputs.ONCE)))
        engine.apply(1.0)
        engine.save(self.out / "clipped")
        return float(stats.grad_norm)

    def _losses(self, make_engine: Made) -> dict[str, Any]:
        plan = self.setup.plan()
        architecture = Watched(plan.architecture, loss=True)
        engine = make_engine(replace(plan, architecture=architecture))
        # A microbatch of padding is one of those that the model's losses are averaged over.
        rows = inputs.rows_of(self.setup, inputs.ONCE)
        batches = [*self._cut(engine, rows), inputs.batch_of([inputs.padding(self.setup)])]
        modes: dict[str, list[str]] = {}
        stats = inputs.plain(engine.forward_backward(batches))
        modes["forward_backward"] = _taken(architecture.calls)
        engine.discard()
        inputs.scored(self.setup, engine)
        modes["score"] = _taken(architecture.calls)
        engine.forward_backward(batches)
        engine.discard()
        _taken(architecture.calls)
        engine.handle().score([([3, 5], [7, 9])])
        modes["handle"] = _taken(architecture.calls)
        return {"stats": stats, "modes": modes}

    def _prepared(self, make_engine: Made, precision: str) -> dict[str, Any]:
        plan = self.setup.plan(precision=precision)
        assert plan.objective is not None, "the kit's plans have one"
        objective = Prepared(plan.objective, plan.device)
        architecture = Watched(plan.architecture, loss=False)
        engine = make_engine(replace(plan, objective=objective, architecture=architecture))
        answers = inputs.scored(self.setup, engine)
        _taken(architecture.calls)
        stats = inputs.plain(engine.forward_backward(self._cut(engine, inputs.rows_of(self.setup, inputs.ONCE))))
        said = {"scored": answers, "stats": stats, "notes": objective.notes, "modes": _taken(architecture.calls)}
        said |= inputs.unsound(self.setup, engine)
        engine.apply(inputs.RATE)
        if precision == "bfloat16":
            engine.save(self.out / "half")
        return said

    def _silent(self, engine: Engine) -> dict[str, Any]:
        """Nothing to predict in any microbatch, and in the first of each rank."""
        silent = [inputs.silenced(row) for row in inputs.rows_of(self.setup, inputs.ONCE)]
        all_of_them = inputs.plain(engine.forward_backward(self._cut(engine, silent)))
        engine.discard()
        rows = silent[: engine.data[1]] + inputs.rows_of(self.setup, inputs.ONCE)
        first = inputs.plain(engine.forward_backward(self._cut(engine, rows)))
        engine.discard()
        return {"all": all_of_them, "first": first}

    # --- packed rows ------------------------------------------------------------------------------------------------

    def _packed(self, make_engine: Made) -> dict[str, Any]:
        architecture = build(*self.setup.parts["learned"])
        engine = make_engine(self.setup.plan(architecture=architecture))
        rows = [self._two_documents(row, number) for number, row in enumerate(self._long_rows(architecture.context()))]
        stats = inputs.plain(engine.forward_backward(self._cut(engine, rows)))
        engine.discard()
        said = {"stats": stats, "scored": inputs.scored(self.setup, engine, rows)}
        return said | ({"without": self._without(engine, rows)} if self.whole else {})

    def _long_rows(self, context: int) -> list[Batch]:
        generator = torch.Generator().manual_seed(1000 + inputs.PACKED)
        length = min(self.setup.length, context)
        return [inputs.row(self.setup, length, generator) for _ in range(4)]

    def _two_documents(self, row: Batch, number: int) -> Batch:
        count = row.tokens.shape[1]
        first = count // 2 - number
        inside = torch.arange(count)
        positions = torch.where(inside < first, inside, inside - first)[None]
        return replace(row, positions=positions, segments=(inside >= first).long()[None])

    def _without(self, engine: Engine, rows: Sequence[Batch]) -> dict[str, float]:
        """The loss where something is not passed on, to name what an engine forgot."""
        counted = [replace(row, positions=torch.arange(row.tokens.shape[1])[None]) for row in rows]
        blurred, both = ([replace(row, segments=torch.zeros_like(row.tokens)) for row in s] for s in (rows, counted))
        found = {}
        for words, wrong in (("positions", counted), ("segments", blurred), ("positions and segments", both)):
            found[words] = engine.forward_backward([inputs.batch_of(wrong)]).loss
            engine.discard()
        return found

    def _cut(self, engine: Engine, rows: Sequence[Batch]) -> list[Batch]:
        own = inputs.dealt(self.setup, rows, *engine.data)
        return [inputs.batch_of(own)] if self.whole else inputs.cuts(own)


def _taken(calls: list[str]) -> list[str]:
    """Which modes there were since the last time."""
    found = sorted(set(calls))
    calls.clear()
    return found
