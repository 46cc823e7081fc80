"""The hooks of lmgraft, grouped: the seven seams, the doors beside them, the lifecycle.

A seam hook returns the components that its module offers; core picks the one a recipe names (never "the first
answer"). A plugin names its light module in the entry-point group of each seam it serves::

    [project.entry-points."lmgraft.objective"]
    my_dpo = "my_package.plugin"

Only light names are imported here; what a component must *do* stands in ``lmgraft.seams``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

from lmgraft.component import Component
from lmgraft.version import DEPRECATED

if TYPE_CHECKING:
    from lmgraft.seams.adapter import Adapter
    from lmgraft.seams.architecture import Architecture
    from lmgraft.seams.data_source import DataSource
    from lmgraft.seams.evaluator import Evaluator
    from lmgraft.seams.exporter import Exporter
    from lmgraft.seams.filter import Filter
    from lmgraft.seams.initializer import Initializer
    from lmgraft.seams.lifecycle import RunInfo, StageOutcome
    from lmgraft.seams.merge import Merge
    from lmgraft.seams.objective import Objective
    from lmgraft.seams.optimizer import Optimizer
    from lmgraft.seams.parallelism import Parallelism
    from lmgraft.seams.schedule import Schedule
    from lmgraft.seams.stage import Stage
    from lmgraft.seams.teacher import Teacher
    from lmgraft.seams.tokenizer import Tokenizer

__all__ = ["LIFECYCLE", "ArgumentDeprecated", "hookimpl", "hookspec"]

F = TypeVar("F", bound=Callable[..., Any])

hookimpl = pluggy.HookimplMarker("lmgraft")
_specification = pluggy.HookspecMarker("lmgraft")


class ArgumentDeprecated(DeprecationWarning):
    """What pluggy warns with; ``lmgraft.hooks`` keeps it from users' runs and turns it into notes for authors."""


def hookspec(function: F) -> F:
    """Marks a specification; its arguments in the table ``lmgraft.version.DEPRECATED`` are made known to pluggy."""
    leaving = {
        old.argument: ArgumentDeprecated(str(old))
        for old in DEPRECATED
        if old.hook == getattr(function, "__name__", "")
    }
    return _specification(function, warn_on_impl_args=leaving or None)


# --- the seven seams ------------------------------------------------------------------------------------------------


@hookspec
def lmgraft_data_source() -> list[Component[DataSource]]:
    """Where documents come from. Contract: ``lmgraft.seams.data_source``."""
    raise AssertionError("a specification is never called")


@hookspec
def lmgraft_filter() -> list[Component[Filter]]:
    """What keeps, rewrites or drops documents. Contract: ``lmgraft.seams.filter``."""
    raise AssertionError("a specification is never called")


@hookspec
def lmgraft_tokenizer() -> list[Component[Tokenizer]]:
    """What turns text into ids. Contract: ``lmgraft.seams.tokenizer``."""
    raise AssertionError("a specification is never called")


@hookspec
def lmgraft_architecture() -> list[Component[Architecture]]:
    """What the model is. Contract: ``lmgraft.seams.architecture``."""
    raise AssertionError("a specification is never called")


@hookspec
def lmgraft_parallelism() -> list[Component[Parallelism]]:
    """How a model is laid out over devices and stepped. Contract: ``lmgraft.seams.parallelism``."""
    raise AssertionError("a specification is never called")


@hookspec
def lmgraft_objective() -> list[Component[Objective]]:
    """What is optimised. Contract: ``lmgraft.seams.objective``."""
    raise AssertionError("a specification is never called")


@hookspec
def lmgraft_evaluator() -> list[Component[Evaluator]]:
    """What is measured. Contract: ``lmgraft.seams.evaluator``."""
    raise AssertionError("a specification is never called")


# --- the doors beside them ------------------------------------------------------------------------------------------


@hookspec
def lmgraft_initializer() -> list[Component[Initializer]]:
    """How weights start. Beside architecture; contract: ``lmgraft.seams.initializer``."""
    raise AssertionError("a specification is never called")


@hookspec
def lmgraft_adapter() -> list[Component[Adapter]]:
    """Few weights that are trained beside frozen ones. Beside architecture; contract: ``lmgraft.seams.adapter``."""
    raise AssertionError("a specification is never called")


@hookspec
def lmgraft_merge() -> list[Component[Merge]]:
    """How models become one model. Beside architecture; contract: ``lmgraft.seams.merge``."""
    raise AssertionError("a specification is never called")


@hookspec
def lmgraft_exporter() -> list[Component[Exporter]]:
    """How a model leaves. Beside architecture; contract: ``lmgraft.seams.exporter``."""
    raise AssertionError("a specification is never called")


@hookspec
def lmgraft_optimizer() -> list[Component[Optimizer]]:
    """How gradients become steps. Beside objective; contract: ``lmgraft.seams.optimizer``."""
    raise AssertionError("a specification is never called")


@hookspec
def lmgraft_schedule() -> list[Component[Schedule]]:
    """How the learning rate moves. Beside objective; contract: ``lmgraft.seams.schedule``."""
    raise AssertionError("a specification is never called")


@hookspec
def lmgraft_teacher() -> list[Component[Teacher]]:
    """What writes or judges text. Of no one seam; contract: ``lmgraft.seams.teacher``."""
    raise AssertionError("a specification is never called")


@hookspec
def lmgraft_stage() -> list[Component[Stage]]:
    """A new kind of stage. Of no one seam; contract: ``lmgraft.seams.stage``."""
    raise AssertionError("a specification is never called")


@hookspec
def lmgraft_lifecycle() -> list[Component[Any]]:
    """A tracker: its target is a class whose methods implement any of the lifecycle hooks below."""
    raise AssertionError("a specification is never called")


# --- the lifecycle --------------------------------------------------------------------------------------------------
# Called on trackers that the recipe selects, each in a thread of its own behind a bounded queue. Results are ignored,
# failures are reported with the distribution's name, and neither slows nor stops the run.

LIFECYCLE = ("run_start", "stage_start", "step", "checkpoint", "stage_end", "run_end")


@hookspec
def lmgraft_run_start(run: RunInfo) -> None:
    """The recipe is checked and work begins."""


@hookspec
def lmgraft_stage_start(run: RunInfo, stage: str) -> None:
    """A stage begins (a reused one too)."""


@hookspec
def lmgraft_step(run: RunInfo, stage: str, row: Mapping[str, Any]) -> None:
    """A row of metrics.jsonl was written."""


@hookspec
def lmgraft_checkpoint(run: RunInfo, stage: str, step: int, path: Path) -> None:
    """A checkpoint is complete on disk."""


@hookspec
def lmgraft_stage_end(run: RunInfo, stage: str, status: str, outcome: StageOutcome) -> None:
    """A stage ended. ``outcome`` (since API 2) says how, how long it took and which artifact it left.

    ``status`` is ``outcome.status``; deprecated since API 2, it goes with API 3.
    """


@hookspec
def lmgraft_run_end(run: RunInfo, status: str) -> None:
    """The run ended: ``done``, ``failed`` or ``stopped``."""
