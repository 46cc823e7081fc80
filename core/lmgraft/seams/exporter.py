"""Door ``exporter``: how a model leaves. Beside ``architecture``.

Rules
- Reads a Hugging Face model folder (safetensors, config.json, tokenizer files) and writes under ``out`` only.
- The same folder gives the same bytes.

No stage of core's own has a slot for it; a stage of a third party takes one with ``slot("exporter")``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

__all__ = ["Exporter"]


@runtime_checkable
class Exporter(Protocol):
    """The part: writes a model in another format."""

    def export(self, model: Path, out: Path) -> None:
        """Turns a Hugging Face model folder into files under ``out``."""
        ...
