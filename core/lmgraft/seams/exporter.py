"""Door ``exporter``: how a model leaves. Beside ``architecture``."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

__all__ = ["Exporter"]


@runtime_checkable
class Exporter(Protocol):
    def export(self, model: Path, out: Path) -> None:
        """Turns a Hugging Face model folder into files under ``out``."""
        ...
