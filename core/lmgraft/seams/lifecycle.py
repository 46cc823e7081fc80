"""Door ``lifecycle``: what trackers are told.

A tracker's class implements any of the hooks ``lmgraft_run_start`` ... ``lmgraft_run_end``, marked ``@hookimpl``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["RunInfo"]


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a tracker may know of a run. Nothing secret is in it."""

    recipe: str
    dir: Path
    seed: int
    config: Mapping[str, Any] = field(default_factory=dict)
    """The resolved recipe."""
