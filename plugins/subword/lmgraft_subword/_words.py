"""Words of a sample and how often each occurs, in bounded memory."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby

import numpy as np
from tokenizers import Regex, pre_tokenizers

from lmgraft_subword._lattice import Words

__all__ = ["count", "numbered"]

#: Spaces with what follows them: a word never begins elsewhere than here or within one. Splitting these by the real
#: pattern, once each, is ten times as fast as splitting the text.
_COARSE = re.compile(r" +[^ ]*|[^ ]+")
#: A word is learnt from in parts of this many characters.
_LONGEST_WORD = 48


def count(texts: Iterable[str], pattern: str, characters: int) -> Counter[str]:
    """The words of ``texts`` by ``pattern``. Where they hold more than ``characters`` in all, the rarest are left out;
    while counting, words that were rare so far are forgotten once there are four times as many."""
    splitter = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    coarse: Counter[str] = Counter()
    words: Counter[str] = Counter()
    waiting = 0
    for text in texts:
        coarse.update(_COARSE.findall(text))
        waiting += len(text)
        if waiting > 4 * characters:
            waiting = 0
            if sum(map(len, coarse)) > characters:
                words = _settled(words, coarse, splitter, 2 * characters)
                coarse = Counter()
    return _settled(words, coarse, splitter, characters)


def _settled(
    words: Counter[str], coarse: Counter[str], splitter: pre_tokenizers.Split, characters: int
) -> Counter[str]:
    for part, times in coarse.items():
        for word, _ in splitter.pre_tokenize_str(part):
            words[word] += times
    if sum(map(len, words)) <= characters:
        return words
    kept: Counter[str] = Counter()
    held = 0
    for word in sorted(words, key=lambda word: (-words[word], word)):
        held += len(word)
        if held > characters and kept:
            break
        kept[word] = words[word]
    return kept


def numbered(words: Counter[str], alphabet: list[str]) -> Words:
    """The words as numbers of ``alphabet``; a character outside it ends a word."""
    numbers = {character: number for number, character in enumerate(alphabet)}
    found: Counter[str] = Counter()
    for word, times in words.items():
        for part in _parts(word, numbers):
            found[part] += times
    ordered = sorted(found)
    codes = [numbers[character] for word in ordered for character in word]
    lengths, counts = [len(word) for word in ordered], [found[word] for word in ordered]
    return Words(*(np.array(column, dtype=np.int64) for column in (codes, lengths, counts)))


def _parts(word: str, numbers: dict[str, int]) -> Iterator[str]:
    for known, letters in groupby(word, numbers.__contains__):
        if known:
            part = "".join(letters)
            for start in range(0, len(part), _LONGEST_WORD):
                yield part[start : start + _LONGEST_WORD]
