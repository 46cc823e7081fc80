"""What core gives to a stage at work: its inputs, folders and parts, and ways to be seen, heard and stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from lmgraft.artifacts import Artifact
from lmgraft.component import Component, ComponentConfig
from lmgraft.console import Console
from lmgraft.lifecycle import Lifecycle
from lmgraft.recipe import PartUse, StageNode
from lmgraft.registry import build
from lmgraft.seams.lifecycle import RunInfo
from lmgraft.seams.stage import Progress

__all__ = ["Context"]

_NOWHERE = Path("/nonexistent")


@dataclass(slots=True)
class Context:
    """Implements :class:`lmgraft.seams.stage.StageContext`. Until work begins, ``work`` and ``out`` lead nowhere."""

    name: str
    seed: int
    device: str
    inputs: Mapping[str, list[Artifact]]
    stage: StageNode
    run: RunInfo
    console: Console
    lifecycle: Lifecycle
    digests: Callable[[Sequence[Path]], list[str]]
    checks: list[Callable[[], None]] = field(default_factory=list)
    work: Path = _NOWHERE
    out: Path = _NOWHERE
    upstream: Sequence[StageNode] = ()
    metrics: list[IO[str]] = field(default_factory=list)
    """Open files that each row goes to: the run's metrics.jsonl and the action's sidecar."""

    @property
    def recipe(self) -> str:
        return self.run.recipe

    def part(self, path: str) -> Any:
        component, config = self.component(path)
        return build(component, config)

    def parts(self, slot: str) -> dict[str, Any]:
        return {use.config.part: build(use.installed.component, use.config) for use in self._uses(slot)}

    def component(self, path: str) -> tuple[Component[Any], ComponentConfig]:
        for use in self.stage.parts:
            if use.slot == path:
                return use.installed.component, use.config
        raise KeyError(f"stage {self.name} has no part at {path}")

    def _uses(self, slot: str) -> list[PartUse]:
        return [use for use in self.stage.parts if use.slot == slot or use.slot.startswith(f"{slot}.")]

    def file_digest(self, path: Path) -> str:
        return self.digests([path])[0]

    def file_digests(self, paths: Sequence[Path]) -> list[str]:
        return self.digests(paths)

    def progress(self, title: str, total: float | None, unit: str) -> AbstractContextManager[Progress]:
        return self.console.progress(title, total, unit)

    def emit(self, row: Mapping[str, Any]) -> None:
        whole = {"stage": self.name, **row}
        line = json.dumps(whole, ensure_ascii=False) + "\n"
        for file in self.metrics:
            file.write(line)
            file.flush()
        self.lifecycle.tell("step", run=self.run, stage=self.name, row=whole)

    def note(self, text: str) -> None:
        self.console.line(f"  {text}")

    def checkpointed(self, step: int, path: Path) -> None:
        self.lifecycle.tell("checkpoint", run=self.run, stage=self.name, step=step, path=path)

    def alive(self) -> None:
        for check in self.checks:
            check()
