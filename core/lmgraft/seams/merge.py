"""Door ``merge``: how models become one model. Beside ``architecture``.

Rules
- Streams tensor by tensor: peak memory is about one tensor, whatever the model's size.
- Reads and writes Hugging Face model folders; the written ``config.json`` tells the truth about the new shape.
- ``lmgraft.artifacts.checkpoint`` reads folders tensor by tensor and writes them; ``lmgraft.artifacts.streaming``
  copies tensors as they are and computes others block by block, without torch; ``lmgraft.artifacts.layers`` says which
  tensors are a layer's and what ``config.json`` must tell when layers are put together anew.
- A merge that adds layers, which are then trained alone, lists their numbers in the result under
  :data:`lmgraft.artifacts.layers.NEW_LAYERS` of ``config.json``: a train stage's ``trainable_layers: [added]`` means
  those. Training and merges that keep layers keep the list.
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

    takes_models: ClassVar[tuple[int, int | None]]
    """The fewest and the most models that it takes, None for as many as there are: another number is refused in a
    recipe before any work, and by ``lmgraft merge`` before anything is read. Without it the part itself says so."""
    examples: ClassVar[tuple[str, ...]]
    """What stands behind ``lmgraft merge NAME`` in the examples of its ``--help``: ``"A B OUT --t 0.3"``. Without it
    core makes some up of the fields."""
    takes_tokenizer: ClassVar[bool]
    """True for a :class:`VocabularyMerge`: a recipe that names a tokenizer for another part is refused before any work,
    and ``lmgraft merge`` offers ``--tokenizer``. A class attribute of the config."""
