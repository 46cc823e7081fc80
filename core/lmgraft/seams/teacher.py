"""Door ``teacher``: what writes or judges text, a checkpoint or an OpenAI-compatible endpoint. Of no one seam.

Rules
- Every answer is recorded under a digest of its request; a run is repeated from the record alone.

No stage of core's own has a slot for it; a stage of a third party takes one with ``slot("teacher")``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

__all__ = ["Teacher"]


@runtime_checkable
class Teacher(Protocol):
    """The part: answers conversations."""

    def ask(self, requests: Sequence[Sequence[Mapping[str, Any]]], record: Path) -> list[str]:
        """One answer for each conversation, in order; requests found in ``record`` are answered from it. A conversation
        is ``{"role": ..., "content": ...}`` in order, the last one to be answered."""
        ...
