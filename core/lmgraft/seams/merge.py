"""Door ``merge``: how models become one model. Beside ``architecture``.

Rules
- Streams tensor by tensor: peak memory is about one tensor, whatever the model's size.
- Reads and writes Hugging Face model folders; the written ``config.json`` tells the truth about the new shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

__all__ = ["Merge"]


@runtime_checkable
class Merge(Protocol):
    def merge(self, models: Sequence[Path], out: Path, progress: Callable[[int, int], None] = ...) -> None:
        """Writes a model folder (without tokenizer files; core copies those) to ``out``.

        ``progress(bytes done, bytes in all)`` is called after each tensor. Raises
        :class:`lmgraft.errors.UserError` where the models cannot be merged, before anything is written.
        """
        ...
