"""Holds ``perplexity`` to the evaluators' contract: whole contexts, and narrow windows that overlap."""

from __future__ import annotations

from collections.abc import Mapping
from math import log2
from typing import Any, ClassVar

from lmgraft.testing import EvaluatorSuite

__all__ = ["TestPerplexity", "TestPerplexityInWindows"]


class TestPerplexity(EvaluatorSuite):
    component = "perplexity"

    def known(self, vocab_size: int) -> Mapping[str, float]:
        # The kit's tokenizer has one token a byte.
        texts = [document.text or "" for document in self.documents()]
        per_byte, sizes = log2(vocab_size), sum(len(text.encode()) for text in texts)
        return {
            "perplexity": vocab_size,
            "bits_per_byte": per_byte,
            "bits_per_character": per_byte * sizes / sum(map(len, texts)),
        }


class TestPerplexityInWindows(TestPerplexity):
    settings: ClassVar[dict[str, Any]] = {"window": 4, "stride": 3}
