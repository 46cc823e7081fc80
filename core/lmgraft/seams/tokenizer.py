"""Seam ``tokenizer``: what turns text into ids and back.

A tokenizer part is trained on text, or loads or extends an existing vocabulary, and is saved as ``tokenizer.json``
(with ``tokenizer_config.json``), which is what every later stage reads.

Rules
- Ids are ``0 .. vocab_size - 1``; the padding token is never the end token.
- Byte-level tokenizers round-trip every string exactly.
- ``fingerprint()`` changes whenever some text would be encoded differently.
- ``train`` is deterministic: the same texts in the same order give the same vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

__all__ = ["TextTokenizer", "Tokenizer"]


@runtime_checkable
class TextTokenizer(Protocol):
    """A tokenizer that is ready to use. ``lmgraft.artifacts.tokenizer.load`` gives one for any saved folder."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def end_id(self) -> int:
        """Ends a document or an answer."""
        ...

    @property
    def pad_id(self) -> int: ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, no special tokens added."""
        ...

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str: ...

    def token_bytes(self) -> list[int]:
        """For each id the number of UTF-8 bytes it stands for; 0 for special tokens."""
        ...

    def fingerprint(self) -> str: ...

    @property
    def chat_template(self) -> str | None:
        """The Jinja source that chats are written with, or None. Ids do not depend on it, so neither does the
        fingerprint."""
        ...


@runtime_checkable
class Tokenizer(Protocol):
    """The part: makes a tokenizer and saves it."""

    def train(self, texts: Iterable[str]) -> None:
        """Learns a vocabulary from ``texts``. A part that only loads ignores them."""
        ...

    def save(self, folder: Path) -> None:
        """Writes ``tokenizer.json`` and ``tokenizer_config.json`` (with ``eos_token`` and ``pad_token``)."""
        ...
