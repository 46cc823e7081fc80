"""Door ``merge``: how models become one model. Beside ``architecture``.

Rules
- Streams tensor by tensor: peak memory is about one tensor, whatever the model's size.
- Reads and writes Hugging Face model folders; the written ``config.json`` tells the truth about the new shape.
- ``lmgraft.artifacts.checkpoint`` reads folders tensor by tensor and writes them; ``lmgraft.artifacts.streaming``
  copies tensors as they are, without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

__all__ = ["Merge"]


@runtime_checkable
class Merge(Protocol):
    """The part: makes one model folder of one or several."""

    def merge(self, models: Sequence[Path], out: Path, progress: Callable[[int, int], None] = ...) -> None:
        """Writes a model folder (without tokenizer files; core copies those) to ``out``.

        ``progress(bytes done, bytes in all)`` is called after each tensor. Raises
        :class:`lmgraft.errors.UserError` where the models cannot be merged, before anything is written.
        """
        ...
