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
from typing import ClassVar, Protocol, runtime_checkable

__all__ = ["Merge", "MergeConfig", "VocabularyMerge"]


@runtime_checkable
class Merge(Protocol):
    """The part: makes one model folder of one or several."""

    def merge(self, models: Sequence[Path], out: Path, progress: Callable[[int, int], None] = ...) -> None:
        """Writes a model folder (without tokenizer files; core copies those) to ``out``.

        ``progress(bytes done, bytes in all)`` is called after each tensor. Raises
        :class:`lmgraft.errors.UserError` where the models cannot be merged, before anything is written.
        """
        ...


@runtime_checkable
class VocabularyMerge(Merge, Protocol):
    """A merge that gives a model another vocabulary. The method is optional."""

    def merge_vocabulary(
        self, models: Sequence[Path], tokenizer: Path, out: Path, progress: Callable[[int, int], None] = ...
    ) -> None:
        """Called instead of ``merge`` where the stage names a tokenizer: writes a model folder to ``out`` whose rows of
        embedding and head are those of the tokenizer saved in ``tokenizer``. Each of ``models`` is a folder with its
        own tokenizer. Core puts the new tokenizer's files beside the result. The part's settings say
        ``takes_tokenizer`` (:class:`MergeConfig`).
        """
        ...


class MergeConfig(Protocol):
    """What a merge's *settings* may have beside their fields. Optional."""

    takes_tokenizer: ClassVar[bool]
    """True for a :class:`VocabularyMerge`: a recipe that names a tokenizer for another part is refused before any work,
    and ``lmgraft merge`` offers ``--tokenizer``. A class attribute of the config."""
