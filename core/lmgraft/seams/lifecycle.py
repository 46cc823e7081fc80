"""Door ``lifecycle``: what trackers are told.

A tracker's class implements any of the hooks ``lmgraft_run_start`` ... ``lmgraft_run_end``, marked ``@hookimpl``, each
with those of the hook's arguments that it needs.

What ``lmgraft_step`` gets as ``row`` is a row of metrics.jsonl: JSON values, ``stage`` always, and by what it tells

- a train stage, every ``log_every`` steps: ``step`` (updates done, from 1), ``tokens`` (read so far), ``lr``, ``loss``,
  ``grad_norm``, ``tokens_per_second``, ``data_wait`` (the share of the steps' time spent waiting for data), the
  objective's own metrics under their names, and ``skipped: true`` where the gradient was not finite (figures that are
  not finite are left out);
- its held-out figures: ``step`` (0 before the first), ``val_loss`` and, of packed tokens, ``val_bits_per_byte`` (of a
  mixture these two of each source too, as ``val_loss_SOURCE``), of rows ``val_NAME`` for each metric;
- a train stage over a mixture, once a source before it trains: ``source``, ``share`` (of the samples), ``samples``,
  ``epochs`` (how often the whole training sees it); no ``step``;
- a train stage over a corpus, once a split before it trains: ``split``, ``rows``, ``overlong``, ``empty``; no ``step``;
- a stage of a third party: what it gives to ``context.emit``.

So read by key, and take no key but ``stage`` for granted. A stage that goes on after a kill tells its rows from the
first step anew; a reused one tells none (metrics.jsonl has them, marked ``reused``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["RunInfo", "StageOutcome"]


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a tracker may know of a run. Nothing secret is in it."""

    recipe: str
    """The recipe's name."""
    dir: Path
    """The run directory; a tracker writes below it, in a folder of its own name."""
    seed: int
    """The run's."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The resolved recipe."""


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """How a stage ended, and what a tracker needs in order to log its artifact. Since API 2."""

    status: str
    """``ran``, ``reused`` or ``failed``."""
    seconds: float
    """From the stage's start to its end in this run; a reused one takes next to none."""
    kind: str = ""
    """The kind of artifact that the stage makes: ``corpus``, ``tokens``, ``model``, ``scores`` ..."""
    artifact: Path | None = None
    """The finished artifact's folder, immutable and in the store: read it, never write there. None where it failed."""
    digest: str = ""
    """sha256 over the names, sizes and contents of the artifact's files; empty where the stage failed."""
