"""Seam ``tokenizer``: what turns text into ids and back.

A tokenizer part is trained on text, or loads or extends an existing vocabulary, and is saved as ``tokenizer.json``
(with ``tokenizer_config.json``), which is what every later stage reads by Hugging Face's ``tokenizers``.

A tokenizer that this library cannot express, or that encodes faster by itself, has one method more, ``load``
(:class:`LoadingTokenizer`). Core then notes the part's name in ``tokenizer_config.json``, and wherever the tokenizer is
used (packing, training, evaluating, generating, on any rank) the installed part of that name reads the folder. Its
``tokenizer.json`` is then a JSON object of its own making, and whoever uses the model needs its distribution.

Rules
- Ids are ``0 .. vocab_size - 1``, whole numbers of Python's; the padding token is never the end token.
- A text that spells a special token is text: its ids never hold the special token's.
- Byte-level tokenizers round-trip every string exactly.
- ``fingerprint()`` changes whenever some text would be encoded differently.
- ``train`` is deterministic: the same texts in the same order give the same vocabulary, in the same bytes.
- ``encode_batch`` may be called from several threads at once.
- Further files that ``save`` writes go wherever the tokenizer goes; names that models and tokens need (``config.json``,
  ``*.safetensors``, ``train.bin``) are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

__all__ = [
    "ExtendingTokenizer",
    "LoadingTokenizer",
    "ReadingTokenizer",
    "TextTokenizer",
    "Tokenizer",
    "TokenizerConfig",
    "first_id",
]


@runtime_checkable
class TextTokenizer(Protocol):
    """A tokenizer that is ready to use. ``lmgraft.artifacts.tokenizer.load`` gives one for any saved folder.

    It may have ``encode_arrays(texts)`` too, ``encode_batch`` as int32 arrays of numpy: packing asks for these first;
    and ``special_ids()``, the special tokens as they are written -> their ids: a chat template that writes one gets its
    id, where otherwise it is text; ``begin_id``, what a chat template's ``bos_token`` is, where that is another than
    the end token; and ``first_id``, what a document begins with, where that is another than the end token
    (:func:`first_id` gives it of any tokenizer).
    """

    @property
    def vocab_size(self) -> int:
        """The highest id plus one."""
        ...

    @property
    def end_id(self) -> int:
        """Ends a document or an answer."""
        ...

    @property
    def pad_id(self) -> int:
        """Fills batches."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, no special tokens added."""
        ...

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """The text of ``ids``; with ``skip_special`` special tokens are left out. Ids that end within a character give
        U+FFFD there."""
        ...

    def token_bytes(self) -> list[int]:
        """For each id the number of UTF-8 bytes it stands for; 0 for special tokens."""
        ...

    def fingerprint(self) -> str:
        """A digest of all that decides ids."""
        ...

    @property
    def chat_template(self) -> str | None:
        """The Jinja source that chats are written with, or None. Ids do not depend on it, so neither does the
        fingerprint. It stands in ``tokenizer_config.json``; core adds it to what a part's ``load`` returns."""
        ...


def first_id(tokenizer: TextTokenizer) -> int:
    """The id that a document begins with, in training, in evaluation and in generation: the tokenizer's own
    ``first_id``, or else its end token, after which documents stand in models made here.

    ``encode_batch`` never gives it: whoever begins a document puts it there. Chats begin as their template says.
    """
    return int(getattr(tokenizer, "first_id", tokenizer.end_id))


@runtime_checkable
class Tokenizer(Protocol):
    """The part: makes a tokenizer and saves it."""

    def train(self, texts: Iterable[str]) -> None:
        """Learns a vocabulary from ``texts``. A part that only loads ignores them."""
        ...

    def save(self, folder: Path) -> None:
        """Writes ``tokenizer.json`` and ``tokenizer_config.json`` (with ``eos_token`` and ``pad_token``)."""
        ...


@runtime_checkable
class LoadingTokenizer(Tokenizer, Protocol):
    """A part that reads what it saved by itself. The method is optional: a part without it is read by core."""

    def load(self, folder: Path) -> TextTokenizer:
        """The tokenizer in ``folder``, which holds what ``save`` wrote.

        The part is built with its default settings for this, in any process, and never trained: all that decides ids
        must lie in the folder. Raises :class:`lmgraft.errors.UserError` for files that are damaged.
        """
        ...


@runtime_checkable
class ExtendingTokenizer(Tokenizer, Protocol):
    """A part that can start from a vocabulary that is there. The method is optional."""

    def extend(self, base: Path, texts: Iterable[str]) -> None:
        """Called instead of ``train`` where the stage names a ``base``: the folder of a saved tokenizer (or of a model
        with one). Every id of the base keeps its token.

        Raises :class:`lmgraft.errors.UserError` where the part cannot extend a tokenizer of that type.
        """
        ...


@runtime_checkable
class ReadingTokenizer(Tokenizer, Protocol):
    """A part that reads files which its settings name. The method is optional."""

    def inputs(self) -> Mapping[str, str]:
        """Role -> the file, or a folder of which every file counts. Their contents, and neither paths nor dates, are
        part of the stage's key, so a tokenizer is made anew where a file has changed."""
        ...


class TokenizerConfig(Protocol):
    """What a tokenizer's *settings* may have beside their fields. Both are optional."""

    opens: ClassVar[tuple[str, ...]]
    """Endings of single files (``(".model",)``) that the part makes a tokenizer of when its setting ``path`` names one.
    ``lmgraft tokens`` finds the part for a file by it, and whatever reads a model folder of somebody else's
    (:mod:`lmgraft.openers`). A class attribute of the config."""

    @classmethod
    def opening(cls, path: str) -> TokenizerConfig:
        """The settings for a file that is only to be read, where they are others than ``path`` alone."""
        ...
