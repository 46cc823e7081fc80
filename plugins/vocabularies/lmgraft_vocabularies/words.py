"""The words of a corpus with their frequencies, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

__all__ = ["MOST_CHARACTERS", "count_words"]

#: Characters in all distinct words that are kept at most; a word costs some 100 bytes and 12 bytes a character.
MOST_CHARACTERS = 48 << 20


def count_words(texts: Iterable[str], split: Callable[[str], list[str]], most: int = MOST_CHARACTERS) -> Counter[str]:
    """How often each word occurs.

    Where distinct words hold more than ``most`` characters, those that have been seen least are forgotten until half of
    that is left (lossy counting, Manku and Motwani 2002): what is learnt is learnt from frequent ones.
    """
    found: Counter[str] = Counter()
    size = 0
    for text in texts:
        before = len(found)
        words = split(text)
        found.update(words)
        if len(found) > before:
            size += sum(map(len, words))  # at most so much; counted exactly below
        if size > most:
            size = sum(map(len, found))
            if size > most:
                size = _forget(found, most // 2)
    return found


def _forget(found: Counter[str], most: int) -> int:
    size = 0
    kept = {}
    for word, count in sorted(found.items(), key=lambda entry: (-entry[1], entry[0])):
        size += len(word)
        if size > most:
            break
        kept[word] = count
    found.clear()
    found.update(kept)
    return sum(map(len, kept))
