"""A stage at work outside of a run: its inputs from a store that all checks share, its folders anywhere, and kills."""

from __future__ import annotations

import atexit
import dataclasses
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from lmgraft.artifacts import Artifact
from lmgraft.console import Console
from lmgraft.context import Context
from lmgraft.devices import resolve_device
from lmgraft.lifecycle import Lifecycle
from lmgraft.recipe import Recipe, StageNode
from lmgraft.registry import build
from lmgraft.runner import Runner
from lmgraft.seams.lifecycle import RunInfo
from lmgraft.store import Store
from lmgraft.testing.models import contents, unused

__all__ = ["Scene", "attempts", "before", "context_of", "identity_text", "shared_store"]

#: Where a stage is killed while it writes, in shares of the calls that it makes.
_POINTS = (0.1, 0.45, 0.9)
#: Audit events (PEP 578) of calls into the file system.
_CALLS = frozenset({"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate"})


@dataclass(frozen=True, slots=True)
class Scene:
    """A stage of a recipe, and the artifacts that it reads. Travels to other processes."""

    stage: StageNode
    recipe: str
    seed: int
    device: str
    inputs: Mapping[str, list[Artifact]]
    store: Path

    @classmethod
    def of(cls, recipe: Recipe, stage: StageNode, folder: Path) -> Scene:
        """With the stages before it run, where the shared store has not their artifacts yet."""
        made = before(recipe, stage, folder)
        inputs = {role: [made[name] for name in names] for role, names in stage.inputs.items()}
        seed = getattr(stage.config, "seed", None)
        device = resolve_device(recipe.device)
        return cls(stage, recipe.name, recipe.seed if seed is None else seed, device, inputs, shared_store(stage.kind))


@dataclass(slots=True)
class Told:
    """What a fork tells of its run."""

    calls: int = 0
    """Into the file system, below ``out`` and ``work``, and to ``context.alive()``."""
    writes: list[int] = field(default_factory=list)
    """Which of them open a file to write it anew."""
    said: str = ""
    """The words of an error."""
    modules: list[str] = field(default_factory=list)
    """What it imported."""


@cache
def shared_store(kind: str) -> Path:
    """A store for what stages of this kind read, removed in the end. One a kind: one makes what another reads."""
    folder = Path(tempfile.mkdtemp(prefix="lmgraft-check-store-")).resolve()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def before(recipe: Recipe, stage: StageNode, folder: Path) -> dict[str, Artifact]:
    """The artifacts of the stages before this one, by name."""
    stages = recipe.stages[: recipe.stages.index(stage)]
    if not stages:
        return {}
    ahead = dataclasses.replace(recipe, stages=stages, store_dir=shared_store(stage.kind), trackers=())
    runner = Runner(ahead, console=Console(quiet=True))
    if any(state != "reused" for _, state in runner.forecast()):
        runner.run(unused(folder, "before"))
    return dict(runner._artifacts)


def context_of(found: Scene, place: Path | None = None, check: Callable[[], None] | None = None) -> Context:
    """What core gives to the stage: ``out`` and ``work`` below ``place``, or leading nowhere as where the key is
    told."""
    context = Context(
        name=found.stage.name,
        seed=found.seed,
        device=found.device,
        inputs=found.inputs,
        stage=found.stage,
        run=RunInfo(found.recipe, Path("run"), found.seed),
        console=Console(quiet=True),
        lifecycle=Lifecycle((), lambda text: None),
        digests=Store(found.store).file_digests,
        checks=[check] if check else [],
    )
    if place is not None:
        context.out, context.work = place / "out", place / "work"
        for folder in (context.out, context.work):
            folder.mkdir(parents=True, exist_ok=True)
    return context


# --- in another process -------------------------------------------------------------------------------------------


def identity_text(found: Scene) -> str:
    part = build(found.stage.installed.component, found.stage.config)
    return json.dumps(part.identity(context_of(found)), sort_keys=True)


def attempts(found: Scene, folder: Path) -> tuple[dict[str, str], dict[str, dict[str, str] | str]]:
    """What the stage makes, and what it makes after kills: where -> the files, or the words of an error.

    Runs in a process of its own that has built nothing else: forks of it begin at once, and have no threads.
    """
    build(found.stage.installed.component, found.stage.config)
    told = _attempt(found, folder / "whole")
    if told.said:
        raise RuntimeError(told.said)
    for name in told.modules:  # here, once for all forks that follow
        with suppress(Exception):
            import_module(name)
    whole = contents(folder / "whole" / "out")
    broken: dict[str, dict[str, str] | str] = {}
    for at in _points(told):
        place = folder / f"killed-{at}"
        _attempt(found, place, at)
        doing = "while it wrote a file" if at in told.writes else "between two calls into the file system"
        broken[f"{doing}, call {at} of {told.calls}"] = _again(found, place)
    broken["when all was written"] = _again(found, folder / "whole")
    return whole, broken


def _points(told: Told) -> list[int]:
    """Calls to kill at: files being written, early, in the middle and late, and any call half-way."""
    writes = [min(told.writes, key=lambda at: abs(at - share * told.calls)) for share in _POINTS if told.writes]
    return sorted({*writes, *([max(1, told.calls // 2)] if told.calls else ())})


def _again(found: Scene, place: Path) -> dict[str, str] | str:
    shutil.rmtree(place / "out")
    return _attempt(found, place).said or contents(place / "out")


def _attempt(found: Scene, place: Path, kill_at: int = 0) -> Told:
    """One run of the stage in a fork."""
    (place / "out").mkdir(parents=True, exist_ok=True)
    file = place / "told"
    child = os.fork()
    if child == 0:
        _work(found, place, kill_at, file)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return Told(said="" if kill_at else f"killed by signal {os.WTERMSIG(status)}")
    return Told(**json.loads(file.read_text(encoding="utf-8")))


def _work(found: Scene, place: Path, kill_at: int, file: Path) -> None:
    told, here, own = Told(), set(sys.modules), (f"{place / 'out'}", f"{place / 'work'}")

    def count(written: str = "") -> None:
        told.calls += 1
        if written:
            told.writes.append(told.calls)
        if told.calls == kill_at:
            if written:  # as it is when the file has been opened and nothing has reached it
                told.calls += 1  # this very call is seen too
                os.close(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CALLS and any(str(argument).startswith(own) for argument in arguments[:2]):
            fresh = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wx")
            count(str(arguments[0]) if fresh else "")

    try:
        sys.addaudithook(hook)
        build(found.stage.installed.component, found.stage.config).run(context_of(found, place, count))
    except BaseException as error:
        told.said = f"{type(error).__name__}: {error}"
    told.modules = sorted(set(sys.modules) - here)
    file.write_text(json.dumps(dataclasses.asdict(told)), encoding="utf-8")
    os._exit(0)
