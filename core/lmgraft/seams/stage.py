"""Door ``stage``: a kind of stage. Core's own kinds (corpus, tokenizer, tokens, train, evaluate) pass through it too.

Rules
- ``run`` writes its artifact under ``context.out`` and nothing else anywhere, except scratch under ``context.work``.
- Killed anywhere and called again with the same ``work``, it goes on and ends with the same bytes.
- The same key gives the same bytes: no clock, no path, no host name in an artifact.
- Its settings derive from :class:`lmgraft.component.StageConfig`: ``artifact`` says what it makes, :func:`slot` and
  :func:`slots` which parts it takes, :func:`from_stage` what it reads.
- One instance serves a stage of a run: ``identity`` is called first, in a dry run too; ``run`` only where no artifact
  of that key is there yet; ``summary`` in either case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from lmgraft.artifacts import Artifact
    from lmgraft.component import StageConfig
    from lmgraft.recipe import StageNode

__all__ = ["Progress", "Stage", "StageContext"]


class Progress(Protocol):
    """A progress bar or its absence."""

    def advance(self, amount: float = 1, **shown: Any) -> None:
        """So much more is done; ``shown`` are figures to show beside the bar."""
        ...

    def total(self, total: float) -> None:
        """How much there is in all, where it is known only now."""
        ...


class StageContext(Protocol):
    """What core gives to a stage at work."""

    name: str
    """The stage's name in the recipe."""
    seed: int
    """The stage's own, or else the run's."""
    device: str
    """``cpu``, ``cuda`` or ``mps``; never ``auto``."""
    work: Path
    """Survives a crash; the stage's own."""
    out: Path
    """Becomes the artifact. Empty at the start, after a crash too: a stage resumes from ``work``."""
    inputs: Mapping[str, list[Artifact]]
    """Role (the config's field) -> the artifacts of the stages it names."""
    upstream: Sequence[StageNode]
    """The stages that this one reads from, directly or not, nearest first, with their settings and parts."""

    @property
    def recipe(self) -> str:
        """The recipe's name. Of this and ``upstream``, what shows in the artifact belongs into ``identity``."""
        ...

    def part(self, path: str) -> Any:
        """Builds the part in a slot: ``"architecture"``, ``"filters.length"``. A new one at each call."""
        ...

    def parts(self, slot: str) -> dict[str, Any]:
        """Builds all parts of a many-slot, in the recipe's order."""
        ...

    def component(self, path: str) -> tuple[Any, Any]:
        """The component and the config in a slot, not built: what a worker process needs to build its own."""
        ...

    def file_digest(self, path: Path) -> str:
        """sha256 of a file, remembered by (path, size, mtime, inode)."""
        ...

    def file_digests(self, paths: Sequence[Path]) -> list[str]:
        """The same for many files at once, which is much faster."""
        ...

    def progress(self, title: str, total: float | None, unit: str) -> AbstractContextManager[Progress]:
        """A progress bar for a block of work; ``total`` None: not known, ``unit`` as ``"documents"`` or ``"B"``."""
        ...

    def emit(self, row: Mapping[str, Any]) -> None:
        """Writes a row of metrics.jsonl (the stage's name is added)."""
        ...

    def note(self, text: str) -> None:
        """A line for the person watching."""
        ...

    def checkpointed(self, step: int, path: Path) -> None:
        """Tells trackers that a checkpoint is complete."""
        ...

    def alive(self) -> None:
        """Raises where the stage must stop: a signal came, or another process has taken the stage over."""
        ...


@runtime_checkable
class Stage(Protocol):
    """The part: does the work of one stage."""

    artifact: str
    """The kind of artifact it makes."""

    def __init__(self, config: StageConfig) -> None:
        """Light: no work is done before ``run``."""
        ...

    def identity(self, context: StageContext) -> Mapping[str, Any]:
        """What the key must hold beyond fields, parts and inputs (the digests of a source's files)."""
        ...

    def run(self, context: StageContext) -> None:
        """Makes the artifact in ``context.out``; calls ``context.alive()`` often.

        :raises UserError: the input cannot be worked on.
        """
        ...

    def summary(self, artifact: Artifact) -> Iterator[tuple[str, str]]:
        """(name, value) pairs for the table at the end of a run."""
        ...
