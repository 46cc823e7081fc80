"""Artifacts: what stages hand to one another, each in a format of the ecosystem. One module a kind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Artifact"]


@dataclass(frozen=True, slots=True)
class Artifact:
    """A finished, immutable folder."""

    kind: str
    """``corpus``, ``tokenizer``, ``tokens``, ``model``, ``scores``, or what a third party's stage calls it."""
    path: Path
    """The folder. Read it, never write to it: other runs share it."""
    digest: str
    """sha256 over the names, sizes and contents of its files."""
    stage: str = ""
    """The stage that made it, for messages and tables."""
