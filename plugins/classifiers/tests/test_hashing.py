"""Hashed n-grams: what is counted, and that nothing but the text matters."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from lmgraft_classifiers import hashing
from lmgraft_classifiers.hashing import counted

WIDTH = 1 << 20


def features(text: str) -> dict[int, int]:
    found = counted([text], WIDTH)
    return dict(zip(found.features.tolist(), found.counts.tolist(), strict=True))


def test_every_ngram_is_counted_once() -> None:
    # " ab ab ": n-grams of 3, 4 and 5 characters, words, and pairs of words.
    assert sum(features("ab ab").values()) == 5 + 4 + 3 + 2 + 1
    assert len(features("ab ab")) == 3 + 3 + 3 + 1 + 1  # " ab", "ab " twice, "b a"; all 4s and 5s differ but " ab "
    assert sum(features("").values()) == 0
    assert sum(features("...").values()) == 3 + 2 + 1


def test_case_and_blanks_are_folded() -> None:
    assert features("Ab  \n cD") == features("ab cd")
    assert features("ab cd") != features("abcd")
    assert features("a-b") != features("a b")
    assert features("don't") != features("don t")


def test_words_share_features_and_texts_do_not_run_into_one_another() -> None:
    apart = counted(["ab", "cd"], WIDTH)
    assert set(apart.features[apart.rows == 0].tolist()) == set(features("ab"))
    assert len(set(features("one two")) & set(features("two three"))) >= 4


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=8), st.integers(1, 40))
def test_a_text_gives_the_same_in_any_batch(texts: list[str], chunk: int) -> None:
    whole = counted(texts, WIDTH)
    before, hashing.CHUNK = hashing.CHUNK, chunk
    try:
        parted = counted(texts, WIDTH)
    finally:
        hashing.CHUNK = before
    for one, other in ((whole.rows, parted.rows), (whole.features, parted.features), (whole.counts, parted.counts)):
        assert np.array_equal(one, other)
    for row, text in enumerate(texts):
        here = whole.rows == row
        assert dict(zip(whole.features[here].tolist(), whole.counts[here].tolist(), strict=True)) == features(text)


def test_features_are_the_same_everywhere() -> None:
    """A change of these numbers is a change of results: raise the components' revision with it."""
    found = counted(["The cat."], 1 << 12)
    assert found.features.tolist() == EXPECTED
    assert found.counts.tolist() == [1] * len(EXPECTED)


def test_few_features_collide() -> None:
    text = " ".join(f"{first}{second}{third}" for first in "abcdefgh" for second in "aeiou" for third in "klmnpqrst")
    padded, words = f" {text} ", text.split()
    grams = {padded[at : at + n] for n in (3, 4, 5) for at in range(len(padded) - n + 1)}
    distinct = len(grams) + len(set(words)) + len(set(itertools.pairwise(words)))
    found = features(text)
    assert 0.995 * distinct < len(found) <= distinct
    # Spread evenly: each half of the features has about half of them.
    assert 0.45 < sum(feature < WIDTH // 2 for feature in found) / len(found) < 0.55


EXPECTED = [178, 250, 520, 926, 1208, 1286, 1417, 1418, 1620, 1792, 1930, 2394]
EXPECTED += [2522, 2533, 2590, 2610, 2624, 2670, 2696, 2901, 3443, 3472, 3591, 3614]
