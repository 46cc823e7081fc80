"""Which library turns text into ids: a choice of execution, since all of them give the same."""

from __future__ import annotations

from enum import Enum

__all__ = ["Encoder"]


class Encoder(Enum):
    """Who encodes a corpus."""

    auto = "auto"
    """gigatoken where it is installed and gives the reference's ids on a check of this very corpus, else tokenizers."""
    gigatoken = "gigatoken"
    """gigatoken; refused where it is not installed, cannot read the tokenizer or gives other ids."""
    tokenizers = "tokenizers"
    """Hugging Face's library: the reference."""
