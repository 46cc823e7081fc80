"""Byte-pair encoding that goes on: the same merges as Hugging Face's trainer, and as a plain count of all pairs."""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmgraft.artifacts.tokenizer import library_threads
from lmgraft_vocabularies.continuing import continue_bpe
from lmgraft_vocabularies.words import count_words
from tokenizers import Tokenizer, models, pre_tokenizers, trainers


def _texts(seed: int) -> list[str]:
    draw = random.Random(seed)
    letters = "ab" if seed % 2 else "abcde"
    words = ["".join(draw.choices(letters, k=draw.randint(1, 12))) for _ in range(300)]
    return [" ".join(words)]


@pytest.mark.parametrize("seed", range(8))
def test_merges_are_those_of_the_library(seed: int) -> None:
    texts = _texts(seed)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    with library_threads():
        tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=120, min_frequency=2, show_progress=False))
    model = json.loads(tokenizer.to_str())["model"]
    names = [name for name in sorted(model["vocab"], key=model["vocab"].get) if len(name) == 1]
    words = {tuple(map(names.index, word)): count for word, count in count_words(texts, str.split).items()}
    found = continue_bpe(words, names, 120 - len(names), lambda left, right: True)
    assert [[names[left], names[right]] for left, right in found] == [list(pair) for pair in model["merges"]]
    assert names == sorted(model["vocab"], key=model["vocab"].get)


def _plain(words: dict[tuple[int, ...], int], names: list[str], count: int) -> list[tuple[int, int]]:
    """Counts every pair anew after each merge."""
    lines = [(list(word), times) for word, times in words.items()]
    found = []
    while True:
        counts: Counter[tuple[int, int]] = Counter()
        for line, times in lines:
            for pair in pairwise(line):
                counts[pair] += times
        counts = Counter({pair: times for pair, times in counts.items() if times >= 2})
        if not counts:
            return found
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        name = names[best[0]] + names[best[1]]
        if name not in names:
            if len(found) and len(names) >= count:
                return found
            names.append(name)
        symbol = names.index(name)
        if best not in found:
            found.append(best)
        for line, _ in lines:
            at = 0
            while at < len(line) - 1:
                if (line[at], line[at + 1]) == best:
                    line[at : at + 2] = [symbol]
                at += 1


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.lists(st.integers(0, 2), min_size=1, max_size=9).map(tuple), st.integers(1, 5), max_size=8))
def test_merges_are_those_of_a_plain_count(words: dict[tuple[int, ...], int]) -> None:
    names = ["a", "b", "c"]
    expected = _plain(words, ["a", "b", "c"], 3 + 10)
    found = list(continue_bpe(words, names, 10, lambda left, right: True))
    assert found[: len(expected)] == expected or found == expected[: len(found)]
    assert len(set(names)) == len(names)


def test_only_allowed_pairs_and_known_ones_are_not_told() -> None:
    names = ["a", "b", "c", "ab"]
    words = {(0, 1, 2): 9}
    assert list(continue_bpe(words, names, 5, lambda left, right: left != 0)) == [(1, 2)]
    names = ["a", "b", "c", "ab"]
    assert list(continue_bpe(words, names, 5, lambda left, right: True, known={(0, 1)})) == [(3, 2)]
    assert names[4:] == ["abc"]


def test_nothing_to_learn() -> None:
    assert list(continue_bpe({}, ["a"], 5, lambda left, right: True)) == []
    assert list(continue_bpe({(0,): 5, (): 2}, ["a"], 5, lambda left, right: True)) == []
    assert list(continue_bpe({(0, 0): 1}, ["a"], 5, lambda left, right: True)) == []


def test_rare_words_are_forgotten_where_memory_is_bounded() -> None:
    texts = [f"often rare{number}" for number in range(100)]
    found = count_words(texts, str.split, most=200)
    assert found["often"] == 100
    assert sum(map(len, found)) <= 200
    assert found == count_words(texts, str.split, most=200)
    assert len(count_words(texts, str.split)) == 101
