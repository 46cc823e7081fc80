"""The training loop: knows steps, not models.

One step is: the batch of this step (a pure function of seed and step), gradients, and an update, or none where the
gradient is not finite. Around it stand rows of metrics, held-out loss, checkpoints and stopping on a signal. Nothing
that is drawn or decided here depends on the clock except *when* a checkpoint is written, which changes no result: a
run that was killed goes on bit for bit as it would have.

Rows are numbered by updates: row k follows update k, and held-out loss of step 0 is that of the untrained model.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lmgraft.errors import Fault, Problem, Stopped, UserError
from lmgraft.seams.parallelism import Engine, StepStats
from lmgraft.training import checkpoint
from lmgraft.training.events import Events
from lmgraft.training.prefetch import Batches, Prefetch
from lmgraft.training.validation import HeldOut
from lmgraft.training.weights import tensor_seed

__all__ = ["Batches", "LoopPlan", "train"]

#: Seconds between checkpoints where the plan names no number of steps, and the share of time they may take.
CADENCE = 60.0
SHARE = 0.05
#: Steps are numbers of this many bits.
STEP_BITS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopPlan:
    """What the loop is to do, in numbers."""

    steps: int
    peak: float
    """Learning rate where ``factor`` is 1."""
    factor: Callable[[int, int], float]
    """``factor(step, steps)`` for step 0 .. steps - 1."""
    seed: int
    checkpoints: Path
    """The folder they go into."""
    micro_batch: int | None = None
    skip_nonfinite: int = 10
    """Steps in a row without a finite gradient that are skipped; the next one ends the run."""
    log_every: int = 1
    validate_every: int = 0
    """0: before the first step and after the last only."""
    checkpoint_every: int = 0
    """0: about once a minute, and no more often than takes a twentieth of the time."""
    keep_checkpoints: int = 2


def train(engine: Engine, loader: Batches, validation: HeldOut | None, plan: LoopPlan, events: Events) -> None:
    """Trains until ``plan.steps``, going on from the newest checkpoint under ``plan.checkpoints`` that verifies.

    :raises Stopped: ``events.alive`` said so; a checkpoint of the last finished step is saved.
    :raises UserError: more than ``plan.skip_nonfinite`` steps in a row had no finite gradient.
    """
    with Prefetch(loader, engine.data, plan.micro_batch, plan.steps) as feed:
        _Loop(engine, feed, validation, plan, events).run()


@dataclass(slots=True)
class _Loop:
    engine: Engine
    feed: Prefetch
    validation: HeldOut | None
    plan: LoopPlan
    events: Events
    step: int = 0
    """Steps that are done."""
    skipped: int = 0
    streak: int = 0
    """Skipped steps in a row, up to now."""
    saved: int = 0
    """The step of the newest checkpoint; nothing needs saving before the first step."""
    saved_at: float = field(default_factory=lambda: time.monotonic())
    save_seconds: float = 0.0
    spent: float = 0.0
    """Seconds in steps since the last row, how many of them were spent waiting for data, and those steps' tokens."""
    waited: float = 0.0
    tokens: int = 0
    read: int = 0
    """Tokens of all steps so far."""
    speed: float = 0.0

    def run(self) -> None:
        self._resume()
        self.feed.begin(self.step)
        self.events.begin(self.step)
        if self.step == 0:
            self._validate()
        while self.step < self.plan.steps:
            self._pause()
            self._step()
            if self._due(self.plan.validate_every):
                self._validate()
        self._save()

    def _pause(self) -> None:
        """Saves where it is time to, stops where somebody said so: all ranks at one step, whoever's clock it was."""
        stopped: Stopped | None = None
        try:
            self.events.alive()
        except Stopped as error:
            stopped = error
        if not self.engine.agree(stopped is not None or self._save_due()):
            return
        self._save()
        if self.engine.agree(stopped is not None):
            raise stopped or Stopped("stopped on a signal; the checkpoint is saved")

    def _step(self) -> None:
        plan, begin = self.plan, time.perf_counter()
        rank, _ = self.engine.data
        torch.manual_seed(tensor_seed(plan.seed, f"step {self.step} of rank {rank}"))
        waited = self.feed.waited
        fed = self.feed.take(self.step)
        self.waited += self.feed.waited - waited
        stats = self.engine.forward_backward(fed.microbatches)
        lr = plan.peak * plan.factor(self.step, plan.steps)
        usable = math.isfinite(stats.loss) and math.isfinite(stats.grad_norm)
        if usable:
            self.engine.apply(lr)
            self.streak = 0
        else:
            self.engine.discard()
            self.skipped += 1
            self.streak += 1
        self.step += 1
        self.spent += time.perf_counter() - begin
        self.tokens += fed.tokens
        self.read += fed.tokens
        self._tell(stats, lr, usable)
        if self.streak > plan.skip_nonfinite or self.skipped == plan.steps:
            raise UserError(self._diverged(lr))

    def _tell(self, stats: StepStats, lr: float, usable: bool) -> None:
        if self._due(self.plan.log_every):
            self.speed = self.tokens / max(self.spent, 1e-9)
            waiting = self.waited / max(self.spent, 1e-9)
            self.spent, self.waited, self.tokens = 0.0, 0.0, 0
            row: dict[str, Any] = {"step": self.step, "tokens": self.read, "lr": lr}
            row |= {"loss": stats.loss, "grad_norm": stats.grad_norm}
            row |= {"tokens_per_second": round(self.speed, 1), "data_wait": round(waiting, 5)}
            row |= {name: value for name, value in stats.metrics.items() if name not in row}
            row = {name: value for name, value in row.items() if math.isfinite(value)}
            self.events.row(row if usable else row | {"skipped": True})
        shown = {"loss": stats.loss} if usable else {}
        self.events.progress(self.step, shown | ({"tokens/s": self.speed} if self.speed else {}))

    def _due(self, every: int) -> bool:
        """After each ``every`` steps, and after the last one."""
        return self.step == self.plan.steps or (every > 0 and self.step % every == 0)

    def _validate(self) -> None:
        if self.validation is not None:
            self.events.row({"step": self.step} | self.validation.run(self.engine))

    def _save_due(self) -> bool:
        if self.saved == self.step:
            return False
        if self.plan.checkpoint_every:
            return self.step % self.plan.checkpoint_every == 0
        return time.monotonic() - self.saved_at >= max(CADENCE, self.save_seconds / SHARE)

    def _save(self) -> None:
        """Comes after the rows of this step, so that a checkpoint's past is complete."""
        if self.saved == self.step:
            return
        begin = time.monotonic()
        if self.engine.main:
            state = {"skipped": self.skipped, "streak": self.streak, "tokens": self.read}
            state["threads"] = torch.get_num_threads()
            folder = self.plan.checkpoints
            path = checkpoint.save(folder, self.step, state, self.engine.save, self.plan.keep_checkpoints)
            self.events.checkpoint(self.step, path)
        else:
            self.engine.save(self.plan.checkpoints)  # gathers with the others; only the main rank writes
        self.saved, self.saved_at = self.step, time.monotonic()
        self.save_seconds = self.saved_at - begin

    def _resume(self) -> None:
        found = checkpoint.latest(self.plan.checkpoints, self.events.note)
        self._all_see(0 if found is None else found.step)
        if found is None:
            return
        self.engine.load(found.path)
        self.step = self.saved = found.step
        self.skipped, self.streak = int(found.state["skipped"]), int(found.state["streak"])
        self.read = int(found.state["tokens"])
        self.events.note(f"going on after step {self.step} of {self.plan.steps}")
        threads = found.state["threads"]
        if threads != torch.get_num_threads():
            self.events.note(
                f"the checkpoint was trained with {threads} threads and this process has {torch.get_num_threads()}: "
                "figures may differ from those of an unbroken run in their last digits"
            )

    def _all_see(self, step: int) -> None:
        """A rank that saw another checkpoint than the others would train other weights, and nobody would notice.

        :raises Fault: one does; it is asked bit by bit, since all that ranks can do is to agree.
        """
        for bit in range(STEP_BITS):
            one = bool(step >> bit & 1)
            if self.engine.agree(one) and self.engine.agree(not one):
                folder = self.plan.checkpoints
                raise Fault(f"the ranks see different checkpoints in {folder}: the file system is not the same to all")

    def _diverged(self, lr: float) -> Problem:
        return Problem(
            f"training broke off at step {self.step}: {self.streak} steps in a row had no finite loss or gradient",
            f"the model diverged, most often because the learning rate is too high (lr = {lr:g} at this step)",
            "lower optimizer.lr, lengthen the schedule's warm-up, or set precision=float32",
        )
