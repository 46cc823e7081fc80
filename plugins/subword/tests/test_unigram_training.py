"""The unigram trainer's sums and choices, against all cuts written out."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import numpy as np
import pytest
from lmgraft_subword._lattice import Lattice, Words
from lmgraft_subword._unigram_training import Settings, _digamma, _seeds, learn

WORDS = {"abab": 5, "ab": 3, "aab": 2, "b": 1, "abcab": 4, "ccc": 6}
LETTERS = "abc"


def words(of: dict[str, int] = WORDS) -> Words:
    codes = [LETTERS.index(letter) for word in of for letter in word]
    columns = (codes, [len(word) for word in of], list(of.values()))
    return Words(*(np.array(column, dtype=np.int64) for column in columns))


def cuts(word: str, pieces: dict[str, float]) -> Iterator[list[str]]:
    if not word:
        yield []
    for size in range(1, len(word) + 1):
        if word[:size] in pieces:
            for rest in cuts(word[size:], pieces):
                yield [word[:size], *rest]


def lattice(pieces: list[str]) -> Lattice:
    """All edges of ``pieces`` in the words."""
    at, size, number, place = [], [], [], 0
    for word in WORDS:
        for start in range(len(word)):
            for index, piece in enumerate(pieces):
                if word.startswith(piece, start):
                    at.append(place + start)
                    size.append(len(piece))
                    number.append(index)
        place += len(word)
    return Lattice(words(), *(np.array(column, dtype=np.int32) for column in (at, size, number)))


PIECES = ["a", "b", "c", "ab", "aba", "ba", "cc", "abab", "bc"]


def scores(seed: int = 0) -> dict[str, float]:
    draw = random.Random(seed)
    return {piece: -draw.uniform(0.5, 4) for piece in PIECES}


def test_expected_counts_are_sums_over_all_cuts() -> None:
    given = scores()
    wanted = dict.fromkeys(PIECES, 0.0)
    for word, times in WORDS.items():
        weights = [(cut, math.exp(sum(given[piece] for piece in cut))) for cut in cuts(word, given)]
        total = sum(weight for _, weight in weights)
        for cut, weight in weights:
            for piece in cut:
                wanted[piece] += times * weight / total
    found = lattice(PIECES).expected(np.array(list(given.values())), len(PIECES))
    assert found == pytest.approx(list(wanted.values()))


def test_best_cut_into_two_pieces_or_more() -> None:
    given = scores(1)
    found = lattice(PIECES).best_but_whole(np.array(list(given.values())))
    for word, best in zip(WORDS, found, strict=True):
        others = [sum(given[piece] for piece in cut) for cut in cuts(word, given) if len(cut) > 1]
        assert best == pytest.approx(max(others)) if others else best < -1e200


def test_pieces_that_go_take_their_edges_along() -> None:
    kept = np.array([True, True, True, True, False, False, True, False, False])
    numbers = np.cumsum(kept) - 1
    smaller = lattice(PIECES)
    smaller.keep(kept, numbers)
    left = [piece for piece, stays in zip(PIECES, kept, strict=True) if stays]
    given = np.array([scores()[piece] for piece in left])
    assert smaller.expected(given, len(left)) == pytest.approx(lattice(left).expected(given, len(left)))


def test_seeds_are_the_strings_that_occur_twice() -> None:
    found = _seeds(words(), 3, Settings(pieces=9, longest=4, seeds=100, shrink=0.5, sub_iterations=2))
    codes = words().codes
    text = {
        "".join(LETTERS[code] for code in codes[at : at + size]) for at, size in zip(found.at, found.size, strict=True)
    }
    counts: dict[str, int] = {}
    for word, times in WORDS.items():
        for start in range(len(word)):
            for stop in range(start + 1, min(len(word), start + 4) + 1):
                counts[word[start:stop]] = counts.get(word[start:stop], 0) + times
    wanted = {
        piece
        for piece, times in counts.items()
        if len(piece) == 1
        or (times >= 2 and not any(counts.get(piece + letter) == times for letter in LETTERS if len(piece) < 4))
    }
    assert text == wanted


def test_training_ends_with_the_size_and_the_characters() -> None:
    for pieces in (3, 5, 8):
        at, size, found = learn(words(), 3, Settings(pieces, longest=4, seeds=100, shrink=0.5, sub_iterations=2))
        codes = words().codes
        text = ["".join(LETTERS[code] for code in codes[a : a + s]) for a, s in zip(at, size, strict=True)]
        assert set(LETTERS) <= set(text)
        assert len(text) == len(set(text)) <= pieces
        assert list(found) == sorted(found, reverse=True)
        assert sum(map(math.exp, found)) < 1.01
    assert "ab" in text


def test_digamma() -> None:
    euler = 0.5772156649015329
    assert _digamma(np.array([1.0, 2.0, 0.5, 10.0])) == pytest.approx(
        [-euler, 1 - euler, -euler - 2 * math.log(2), 2.251752589066721], abs=1e-9
    )
