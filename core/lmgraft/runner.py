"""Runs a recipe's stages in order: looks each one up in the store, builds what is missing, writes the run directory."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lmgraft import manifest, secrets
from lmgraft.artifacts import Artifact
from lmgraft.console import Console, duration
from lmgraft.context import Context
from lmgraft.devices import resolve_device
from lmgraft.errors import LmgraftError, Stopped
from lmgraft.keys import Key, action_key
from lmgraft.lifecycle import Lifecycle
from lmgraft.paths import cache_dir
from lmgraft.recipe import Recipe, StageNode
from lmgraft.registry import build
from lmgraft.rundir import METRICS, link, prepare
from lmgraft.seams.lifecycle import RunInfo, StageOutcome
from lmgraft.seams.stage import Stage
from lmgraft.signals import StopRequest
from lmgraft.store import Record, Store

__all__ = ["Options", "Runner", "store_dir"]


@dataclass(frozen=True, slots=True)
class Options:
    """How to run, as opposed to what."""

    source: str = ""
    """The recipe's file, for the manifest."""
    overrides: tuple[str, ...] = ()
    accept_drift: bool = False
    drift: tuple[str, ...] = ()
    """What has changed since the run that this one repeats, and was accepted."""
    restart: bool = False


def store_dir(recipe: Recipe) -> Path:
    return (recipe.store_dir or cache_dir() / "store").absolute()


class Runner:
    """One recipe, one run directory, one store."""

    def __init__(self, recipe: Recipe, *, options: Options | None = None, console: Console | None = None) -> None:
        self.recipe = recipe
        self.options = options or Options()
        self.console = console or Console()
        self.device = resolve_device(recipe.device)
        self.store = Store(store_dir(recipe))
        self._artifacts: dict[str, Artifact] = {}
        self._stages: dict[str, Stage] = {}
        self._resolved: dict[str, dict[str, Any]] = {}
        """Stage -> the seed and precision it works with, where its settings may say ``auto`` or null."""

    # --- looking ahead ----------------------------------------------------------------------------------------------

    def forecast(self) -> list[tuple[StageNode, str]]:
        """(stage, ``reused`` | ``runs`` | ``depends``) without running anything: what ``--dry-run`` prints.

        ``depends`` marks a stage whose inputs are not built yet: it is reused if they come out as before.
        """
        found: list[tuple[StageNode, str]] = []
        for stage in self.recipe.stages:
            if any(name not in self._artifacts for names in stage.inputs.values() for name in names):
                found.append((stage, "depends"))
                continue
            record = self.store.lookup(self._key(stage, self._context(stage)).action)
            if record is not None:
                self._remember(stage, record)
            found.append((stage, "reused" if record else "runs"))
        return found

    # --- running ----------------------------------------------------------------------------------------------------

    def run(self, folder: Path) -> dict[str, Any]:
        """Runs everything and returns the manifest. On an error the manifest says ``failed`` and the error goes on."""
        folder = folder.absolute()
        # Before anything is written: a tracker that does not load is the user's error and no run.
        lifecycle = Lifecycle(self.recipe.trackers, self.console.line)
        prepare(folder)
        info = RunInfo(
            self.recipe.name, folder, self.recipe.seed, secrets.masked(self.recipe.resolved, secrets.known())
        )
        record = manifest.Manifest(
            folder,
            self.recipe,
            source=self.options.source,
            overrides=self.options.overrides,
            device=self.device,
            store=self.store.root,
        )
        record.write(**({"accepted_drift": list(self.options.drift)} if self.options.drift else {}))
        for note in self.recipe.notes:
            self.console.line(f"note: {note}")
        started = time.monotonic()
        lifecycle.tell("run_start", run=info)
        status = "failed"
        try:
            with StopRequest() as stop, open(folder / METRICS, "w", encoding="utf-8") as metrics:
                for stage in self.recipe.stages:
                    self._stage(stage, folder, info, record, lifecycle, stop, metrics)
            status = "done"
        except Stopped:
            status = "stopped"
            raise
        except KeyboardInterrupt as error:
            status = "stopped"
            raise Stopped(
                "stopped at once on a second signal; the same command goes on from the last checkpoint"
            ) from error
        finally:
            record.write(status=status, seconds=round(time.monotonic() - started, 3))
            lifecycle.tell("run_end", run=info, status=status)
            lifecycle.close()
            self._report(folder)
        return record.data

    def _stage(
        self,
        stage: StageNode,
        folder: Path,
        info: RunInfo,
        record: manifest.Manifest,
        lifecycle: Lifecycle,
        stop: StopRequest,
        metrics: IO[str],
    ) -> None:
        lifecycle.tell("stage_start", run=info, stage=stage.name)
        started = time.monotonic()
        context = self._context(stage, info, lifecycle)
        context.metrics.append(metrics)
        context.checks.append(stop.check)
        key: Key | None = None
        status = "failed"
        try:
            stop.check()
            key = self._key(stage, context)
            record.stage(stage.name, kind=stage.kind, status="running", key=key.action, **self._resolved[stage.name])
            found = self.store.lookup(key.action)
            status = "reused" if found else "ran"
            if found is None:
                found, status = self._build(stage, context, key)
            if status == "reused":
                _copy_metrics(found, metrics)
        except BaseException:
            seconds = round(time.monotonic() - started, 3)
            record.stage(stage.name, kind=stage.kind, status="failed", key=key.action if key else None,
                         seconds=seconds)  # fmt: skip
            outcome = StageOutcome("failed", seconds, stage.config.artifact)
            lifecycle.tell("stage_end", run=info, stage=stage.name, status=outcome.status, outcome=outcome)
            raise
        self._finish(stage, found, status, time.monotonic() - started, folder, info, record, lifecycle)

    def _build(self, stage: StageNode, context: Context, key: Key) -> tuple[Record, str]:
        started = time.monotonic()
        # The inputs' digests are named so that the garbage collector leaves them while this stage is at work.
        inputs = [artifact.digest for artifacts in context.inputs.values() for artifact in artifacts]
        described = {
            "stage": stage.name,
            "kind": stage.kind,
            "recipe": self.recipe.name,
            "parts": dict(key.parts),
            "inputs": inputs,
        }
        with self.store.build(
            key.action,
            loose=key.loose,
            describe=described,
            wait_note=lambda host, pid: self.console.line(
                f"{stage.name}: process {pid} on {host} is building it; waiting"
            ),
            check=context.alive,
            accept_drift=self.options.accept_drift,
            restart=self.options.restart,
        ) as job:
            if job.record is not None:
                return job.record, "reused"
            self.console.line(f"{stage.name}: {'goes on' if job.resumed else 'begins'}")
            context.work, context.out = job.work, job.out
            context.checks.append(job.alive)
            with open(job.sidecar / METRICS, "w", encoding="utf-8") as sidecar:
                context.metrics.append(sidecar)
                with _system_errors():
                    self._stages[stage.name].run(context)
                context.metrics.remove(sidecar)
            meta = {
                "stage": stage.name,
                "recipe": self.recipe.name,
                "environment": manifest.environment(),
                "device": self.device,
            }
            return job.publish(kind=stage.config.artifact, meta=meta, seconds=time.monotonic() - started), "ran"

    def _finish(
        self,
        stage: StageNode,
        found: Record,
        status: str,
        seconds: float,
        folder: Path,
        info: RunInfo,
        record: manifest.Manifest,
        lifecycle: Lifecycle,
    ) -> None:
        artifact = self._remember(stage, found)
        link(folder / "stages" / stage.name, artifact.path)
        self.store.register(folder, [entry["key"] for entry in record.data["stages"].values()])
        if stage.config.artifact == "scores":
            record.data["scores"] += _scores(artifact, stage.name)
        record.stage(
            stage.name, kind=stage.kind, status=status, key=found.key, digest=found.digest,
            seconds=round(seconds, 3), built_seconds=round(found.seconds, 3),
            **({"drift": found.meta["drift"]} if "drift" in found.meta else {}),
        )  # fmt: skip
        facts = ", ".join(f"{value} {name}" for name, value in self._stages[stage.name].summary(artifact))
        self.console.line(f"{stage.name}: {status} in {duration(seconds)}" + (f" - {facts}" if facts else ""))
        outcome = StageOutcome(status, round(seconds, 3), found.kind, artifact.path, found.digest)
        lifecycle.tell("stage_end", run=info, stage=stage.name, status=outcome.status, outcome=outcome)

    def _context(self, stage: StageNode, info: RunInfo | None = None, lifecycle: Lifecycle | None = None) -> Context:
        seed = getattr(stage.config, "seed", None)
        return Context(
            name=stage.name,
            seed=self.recipe.seed if seed is None else seed,
            device=self.device,
            inputs={role: [self._artifacts[name] for name in names] for role, names in stage.inputs.items()},
            stage=stage,
            run=info or RunInfo(self.recipe.name, Path(), self.recipe.seed),
            console=self.console,
            lifecycle=lifecycle or Lifecycle((), self.console.line),
            digests=self.store.file_digests,
            upstream=self.recipe.upstream(stage.name),
        )

    def _key(self, stage: StageNode, context: Context) -> Key:
        component = stage.installed.component
        self._stages[stage.name] = implementation = build(component, stage.config)
        identity: Mapping[str, Any] = {"seed": context.seed, **implementation.identity(context)}
        self._resolved[stage.name] = {name: identity[name] for name in ("seed", "precision") if name in identity}
        return action_key(stage, context.inputs, identity)

    def _remember(self, stage: StageNode, record: Record) -> Artifact:
        artifact = Artifact(record.kind, record.path, record.digest, stage.name)
        self._artifacts[stage.name] = artifact
        return artifact

    def _report(self, folder: Path) -> None:
        """The page is a view of the run: a fault in it is said and never fails the run."""
        try:
            from lmgraft.report import render

            render(folder)
        except Exception as error:  # whatever it is, the run's own end counts
            self.console.line(f"note: report.html could not be written: {type(error).__name__}: {error}")


@contextmanager
def _system_errors() -> Iterator[None]:
    """Libraries written in Rust (safetensors, tokenizers) tell of a full disk by errors of their own, with the
    system's number in the text; as OSError it is understood like any other."""
    try:
        yield
    except Exception as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None or isinstance(error, (OSError, LmgraftError)):
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def _copy_metrics(record: Record, metrics: IO[str]) -> None:
    """A reused stage's rows, marked."""
    file = record.sidecar / METRICS
    if not file.is_file():
        return
    with open(file, encoding="utf-8") as rows:
        for line in rows:
            metrics.write(json.dumps({**json.loads(line), "reused": True}, ensure_ascii=False) + "\n")
    metrics.flush()


def _scores(artifact: Artifact, stage: str) -> list[dict[str, Any]]:
    from lmgraft.artifacts import scores

    return [dict(row) | {"evaluate_stage": stage} for row in scores.read(artifact.path)]
