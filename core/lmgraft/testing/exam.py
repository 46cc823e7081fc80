"""What every layout is put through: work that a parallelism part runs on its ranks, which import it by name.

Ranks answer through files only: ``rank-*.json`` each, and what the engine itself writes on its main rank.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lmgraft.seams.objective import Batch
from lmgraft.seams.parallelism import Engine, ModelHandle, Sampling
from lmgraft.testing import _parallelism_frozen_work as frozen
from lmgraft.testing import _parallelism_inputs as inputs
from lmgraft.testing import _parallelism_scenes as scenes
from lmgraft.testing._parallelism_inputs import Made, Setup

__all__ = ["FOLDERS", "KEPT", "STEPS", "Exam", "Resume", "Setup", "Short"]

STEPS = 4
#: The checkpoint is written before this step.
KEPT = 2
#: What a layout writes checkpoints to; they are there before it is launched.
FOLDERS = ("start", "checkpoint", "end", "once", *scenes.FOLDERS, *frozen.FOLDERS)


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
        said |= scenes.Scenes(self.setup, self.out, self.whole)(make_engine)
        said["frozen"] = frozen.Frozen(self.setup, self.out, self.whole)(make_engine)
        _write(self.out, said)

    def _learnt(self, engine: Engine, step: int) -> dict[str, float]:
        return _learnt(self.setup, engine, step, self.whole)

    def _steps(self, engine: Engine) -> dict[str, Any]:
        engine.save(self.out / "start")
        rows = []
        for step in range(STEPS):
            if step == KEPT:
                engine.save(self.out / "checkpoint")
            rows.append(self._learnt(engine, step))
            engine.apply(inputs.RATE)
        engine.save(self.out / "end")
        engine.export(self.out / "model")
        (rank, size), main = engine.data, engine.main
        return {
            "data": [rank, size],
            "main": main,
            "steps": rows,
            "parameters": {name: list(shape) for name, shape in engine.parameters().items()},
            "agreed": [engine.agree(main), engine.agree(rank == size - 1), engine.agree(False)],
            "unsound": inputs.unsound(self.setup, engine),
            "scored": inputs.scored(self.setup, engine),
        }

    def _once(self, engine: Engine) -> dict[str, Any]:
        stats = self._learnt(engine, inputs.ONCE)
        engine.apply(inputs.RATE)
        engine.save(self.out / "once")
        return stats

    def _discarded(self, engine: Engine) -> dict[str, Any]:
        before = inputs.scored(self.setup, engine)
        found = []
        for step in (inputs.FIRST, inputs.OTHER, inputs.FIRST):
            found.append(self._learnt(engine, step))
            engine.discard()
        said = {"first": found[0], "again": found[2], "before": before, "after": inputs.scored(self.setup, engine)}
        return said | ({"parts": self._parts(engine)} if self.whole else {})

    def _parts(self, engine: Engine) -> dict[str, float]:
        """The loss of the batch of :meth:`_once` with microbatches left out, to name what an engine forgot."""
        one, two, three = inputs.cuts(inputs.rows_of(self.setup, inputs.ONCE))
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
                rows.append(
                    inputs.plain(engine.forward_backward(inputs.cuts(inputs.share(self.setup, step, *engine.data))))
                )
                engine.apply(inputs.RATE)
            said["resumed"][name] = rows
        writers = {name: folder.parent for name, folder in self.checkpoints.items()}
        said["frozen"] = frozen.resumed(self.setup, writers, make_engine)
        asking = self.setup.plan(weights=self.model, initializer=None, objective=None, optimizer=None)
        engine = make_engine(asking)
        said["vocabulary"] = self._vocabulary(engine)
        said |= self._handle(engine)
        _write(self.out, said)

    def _vocabulary(self, engine: Engine) -> dict[str, Any]:
        """Four positions under every id of the vocabulary as their target."""
        size = self.setup.vocab_size
        row = inputs.rows_of(self.setup, inputs.SCORED)[0].tokens[:, :1].expand(size, 4) + torch.arange(4)
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
            "together": _together(handle, [1, 2, 3], ways),
        }


def _together(handle: ModelHandle, prompt: list[int], ways: Sequence[Sampling]) -> list[list[int]]:
    """The same texts beside one another: each joins a step after the one before, and one that goes again."""
    from lmgraft.generation.onebyone import decoding

    batch = decoding(handle)
    gone = batch.add(prompt[:1], Sampling(max_new_tokens=20))
    waiting, found = list(ways), dict[int, list[int]]()
    while waiting or len(batch):
        if waiting:
            found[batch.add(prompt, waiting.pop(0))] = []
        for number, token, _ in batch.step():
            if number in found:
                found[number].append(token)
        if not waiting:
            batch.remove(gone)
    return list(found.values())


@dataclass(frozen=True)
class Short:
    """Two steps: what is compared bit for bit between two builds of one layout."""

    setup: Setup
    out: Path
    device: str = "cpu"

    def __call__(self, make_engine: Made) -> None:
        engine, rows = make_engine(self.setup.plan()), []
        for step in range(2):
            rows.append(
                inputs.plain(engine.forward_backward(inputs.cuts(inputs.share(self.setup, step, *engine.data))))
            )
            engine.apply(inputs.RATE)
        _write(self.out, {"data": list(engine.data), "steps": rows, "scored": inputs.scored(self.setup, engine)})


def _learnt(setup: Setup, engine: Engine, step: int, whole: bool = False) -> dict[str, float]:
    """A step's figures; its gradients wait for ``apply`` or ``discard``."""
    rows = inputs.share(setup, step, *engine.data)
    return inputs.plain(engine.forward_backward([inputs.batch_of(rows)] if whole else inputs.cuts(rows)))


def _write(folder: Path, said: Mapping[str, Any]) -> None:
    (folder / f"rank-{uuid.uuid4().hex}.json").write_text(json.dumps(said), encoding="utf-8")
