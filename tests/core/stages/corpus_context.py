"""A small context for the tests of the corpus stage, and a command that runs the stage in a process of its own."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from corpus_parts import COMPONENTS
from lmgraft.registry import build
from lmgraft.stages.corpus import Corpus
from lmgraft.stages.plugin import CorpusStage


class Bar:
    def __init__(self) -> None:
        self.done: float = 0
        self.wanted: float | None = None
        """Where it was told only later."""
        self.shown: dict[str, Any] = {}

    def advance(self, amount: float = 1, **shown: Any) -> None:
        self.done += amount
        self.shown.update(shown)

    def total(self, total: float) -> None:
        self.wanted = total


class Context:
    """Holds parts as ``slot -> name -> (component, config)``; ``alive`` may be made to stop the stage."""

    name = "corpus"
    device = "cpu"

    def __init__(self, root: Path, parts: Mapping[str, Mapping[str, Any]], seed: int = 1) -> None:
        self.seed = seed
        self.work, self.out = root / "work", root / "out"
        self.inputs: dict[str, Any] = {}
        self.notes: list[str] = []
        self.bars: dict[str, tuple[float | None, Bar]] = {}
        self.stop: Callable[[], None] = lambda: None
        self._parts = parts
        shutil.rmtree(self.out, ignore_errors=True)
        self.work.mkdir(parents=True, exist_ok=True)
        self.out.mkdir()

    def component(self, path: str) -> tuple[Any, Any]:
        slot, name = path.split(".")
        config = self._parts[slot][name]
        return COMPONENTS[config.part or name], config

    def part(self, path: str) -> Any:
        return build(*self.component(path))

    def parts(self, slot: str) -> dict[str, Any]:
        return {name: self.part(f"{slot}.{name}") for name in self._parts[slot]}

    def file_digest(self, path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    @contextmanager
    def progress(self, title: str, total: float | None, unit: str) -> Iterator[Bar]:
        bar = Bar()
        self.bars[title] = (total, bar)
        yield bar

    def emit(self, row: Mapping[str, Any]) -> None:
        raise AssertionError("a corpus has no metrics")

    def note(self, text: str) -> None:
        self.notes.append(text)

    def checkpointed(self, step: int, path: Path) -> None:
        raise AssertionError("a corpus has no checkpoints")

    def alive(self) -> None:
        self.stop()


def stage(sources: Mapping[str, Any], filters: Mapping[str, Any] | None = None, **settings: Any) -> CorpusStage:
    return CorpusStage(
        sources=dict(sources), filters=dict(filters or {}), **{"workers": 1, "memory_mb": 16, **settings}
    )


def ready(root: Path, config: CorpusStage, seed: int = 1) -> tuple[Corpus, Context]:
    return Corpus(config), Context(root, {"sources": config.sources, "filters": config.filters}, seed)


def made(root: Path, config: CorpusStage, seed: int = 1) -> Path:
    """Runs the stage; the artifact's folder."""
    corpus, context = ready(root, config, seed)
    corpus.identity(context)
    corpus.run(context)
    return context.out
