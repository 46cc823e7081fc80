"""Byte-level BPE with merges appended: a donor's, or ones that are learnt by going on where the base ended.

New merges come after all old ones, so a text is first encoded as ever and then some neighbours are joined. A pair that
stands next to each other nowhere in a protected text therefore changes nothing in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

from lmgraft.vocabulary import learnable

from lmgraft_vocabularies.continuing import continue_bpe
from lmgraft_vocabularies.english import is_english_bytes
from lmgraft_vocabularies.library import opened
from lmgraft_vocabularies.patterns import splitter_of
from lmgraft_vocabularies.vocabulary import Vocabulary
from lmgraft_vocabularies.words import count_words

__all__ = ["ByteLevelBase"]

Allowed = Callable[[int, int], bool]


class ByteLevelBase:
    """A byte-level vocabulary that takes new pieces."""

    def __init__(self, vocabulary: Vocabulary, protect_english: bool) -> None:
        self._vocabulary = vocabulary
        self._model: dict[str, Any] = vocabulary.content["model"]
        self._tokenizer = opened(vocabulary.content, vocabulary.path)
        self._splitter = splitter_of(vocabulary.content)
        self._protect_english = protect_english
        self._protected: set[tuple[int, int]] = set()
        # A file may say that a word which is a token is never built up from merges (ignore_merges).
        self._protected_words: set[str] = set()
        self.names = _names(vocabulary)

    def protect(self, texts: Iterable[str]) -> None:
        """What stands next to each other in ``texts`` is never joined, so their encodings stay as they are."""
        for text in count_words(learnable(texts, "extended"), self._split):
            word = self._spelt(text)
            self._protected.update(pairwise(self._ids(word)))
            self._protected_words.add(word)

    def learn(self, texts: Iterable[str], count: int, least: int) -> int:
        """Appends up to ``count`` pieces learnt from ``texts``; returns how many there were."""
        words: dict[tuple[int, ...], int] = {}
        for text, times in count_words(learnable(texts, "extended"), self._split).items():
            ids = tuple(self._ids(self._spelt(text)))
            if len(ids) > 1:
                words[ids] = words.get(ids, 0) + times
        before = len(self.names)
        known = {(self._symbol(left), self._symbol(right)) for left, right in _pairs(self._model)}
        merges = []
        for pair in continue_bpe(words, self.names, count, self._allowed, least=least, known=known):
            merges.append((self.names[pair[0]], self.names[pair[1]]))
        self._append(self.names[before:], merges)
        return len(self.names) - before

    def take(self, donor: Vocabulary) -> int:
        """Appends the donor's pieces that are missing, in its order; returns how many there were.

        A piece is taken once the base, with what was appended so far, encodes it as two symbols: these are its merge.
        One that stays in more parts when no other piece is left to take could be reached by no merge, and is left out.
        """
        missing = _missing(donor, set(self._model["vocab"]) | self._vocabulary.special())
        ranks: dict[tuple[str, str], int] = {}
        parts = {name: [self.names[index] for index in self._ids(name)] for name in missing}
        taken: list[str] = []
        while True:
            before = len(taken)
            for name, own in parts.items():
                parts[name] = own = _joined(own, ranks)
                if len(own) == 2 and self._takes(*own):
                    ranks[own[0], own[1]] = len(ranks)
                    taken.append(name)
            for name in taken[before:]:
                del parts[name]
            if len(taken) == before:
                break
        self._append(taken, list(ranks))
        return len(taken)

    def _takes(self, left: str, right: str) -> bool:
        if self._protect_english and _is_english(left + right):
            return False
        vocab = self._model["vocab"]
        pair = vocab.get(left), vocab.get(right)
        return pair not in self._protected and left + right not in self._protected_words

    def _allowed(self, left: int, right: int) -> bool:
        word = self.names[left] + self.names[right]
        if self._protect_english and _is_english(word):
            return False
        return (left, right) not in self._protected and word not in self._protected_words

    def _append(self, names: list[str], merges: list[tuple[str, str]]) -> None:
        ids, vocab = self._vocabulary.ids(), self._model["vocab"]
        # The library numbers added tokens anew unless the model has them: a larger vocabulary would move them.
        vocab.update({token["content"]: token["id"] for token in self._vocabulary.content.get("added_tokens") or []})
        following = max(ids.values()) + 1
        vocab.update({name: following + number for number, name in enumerate(names)})
        self._model["merges"] = [*map(list, _pairs(self._model)), *map(list, merges)]

    def _split(self, text: str) -> list[str]:
        """Words: as text where the pattern is a known one, else as the library spells them."""
        normalizer = self._tokenizer.normalizer
        normal = normalizer.normalize_str(text) if normalizer else text
        if self._splitter is not None:
            return self._splitter(normal)
        return [word for word, _ in self._tokenizer.pre_tokenizer.pre_tokenize_str(normal)]

    def _spelt(self, word: str) -> str:
        return word if self._splitter is None else _spelt(word)

    def _ids(self, word: str) -> list[int]:
        return [token.id for token in self._tokenizer.model.tokenize(word)]

    def _symbol(self, name: str) -> int:
        return int(self._model["vocab"][name])


def _names(vocabulary: Vocabulary) -> list[str]:
    """Id -> piece. Ids that are not in use, and special tokens, spell nothing that could be joined."""
    ids = vocabulary.ids()
    names = [f"\0{index}" for index in range(max(ids.values()) + 1)]
    special = {token["content"] for token in vocabulary.content.get("added_tokens") or []}
    for name, index in ids.items():
        if name not in special:
            names[index] = name
    return names


def _pairs(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = [merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model.get("merges") or []]
    return [(left, right) for left, right in found]


def _missing(donor: Vocabulary, have: set[str]) -> list[str]:
    special = {token["content"] for token in donor.content.get("added_tokens") or []}
    pieces = sorted(donor.content["model"]["vocab"].items(), key=lambda entry: entry[1])
    return [name for name, _ in pieces if name not in have and name not in special]


def _joined(parts: list[str], ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """``parts`` after the appended merges, lowest rank first and of equal ones the leftmost."""
    while len(parts) > 2:
        found = [(ranks[pair], at) for at, pair in enumerate(pairwise(parts)) if pair in ranks]
        if not found:
            break
        at = min(found)[1]
        parts = [*parts[:at], parts[at] + parts[at + 1], *parts[at + 2 :]]
    return parts


def _alphabet() -> dict[int, str]:
    """GPT-2's: a printable character for each byte (its ``bytes_to_unicode``)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + number) for number, byte in enumerate(others)}


_LETTERS = _alphabet()
_BYTES = {letter: byte for byte, letter in _LETTERS.items()}


def _spelt(word: str) -> str:
    """A word's UTF-8 bytes in GPT-2's alphabet."""
    return word.encode().decode("latin-1").translate(_LETTERS)


def _is_english(name: str) -> bool:
    return is_english_bytes(bytes(_BYTES[letter] for letter in name if letter in _BYTES))
