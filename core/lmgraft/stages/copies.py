"""How much of a generated text is copied: the longest span of it that stands word for word in the training text."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["LIMIT", "TrainingText"]

#: Bytes of training text beyond which nothing is looked up: every sample costs a few seconds at this size.
LIMIT = 64 << 20

#: Stands between documents; no UTF-8 text holds this byte, so no span reaches from one document into the next.
BETWEEN = b"\xff"


class TrainingText:
    """The documents of a training split, held in memory while they are at most ``limit`` bytes."""

    def __init__(self, texts: Iterable[str], limit: int = LIMIT) -> None:
        parts: list[bytes] = []
        size = 0
        for text in texts:
            parts.append(_bytes(text))
            size += len(parts[-1]) + len(BETWEEN)
            if size > limit:
                parts = []
                break
        self._known = size <= limit
        self._data = BETWEEN.join(parts)

    def longest_copy(self, text: str) -> int | None:
        """Characters of the longest span of ``text`` that stands in a document; None where the text is too large.

        Two ends move over ``text``: a span that is found grows at its end, one that is not found moves on at its
        length, since a shorter one would be no new record. So there are at most 2 x len(text) searches.
        """
        if not self._known:
            return None
        start = best = 0
        while start + best < len(text):
            if _bytes(text[start : start + best + 1]) in self._data:
                best += 1
            else:
                start += 1
        return best


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
