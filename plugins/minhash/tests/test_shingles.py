"""Shingles beside a plain reading of the text, character by character."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmgraft_minhash import shingles as module
from lmgraft_minhash.characters import UNSPACED
from lmgraft_minhash.hashing import draw, mixed, spans
from lmgraft_minhash.shingles import Shingler

ALPHABET = "abcABCzé é01239.,,..  \n\t-_!Åßтйสวัสดี日本語の한국𠀀\u0301😀x"
PINNED = [5925226751885814264, 14346404249643391730]
TEXTS = st.lists(st.text(ALPHABET, max_size=60), min_size=1, max_size=8)


def words(text: str, chars: bool, full: bool) -> list[str]:
    """What the docstrings say, slowly."""
    if full:
        kept = []
        for at, char in enumerate(text):
            before, after = text[at - 1 : at] if at else "", text[at + 1 : at + 2]
            category = unicodedata.category(char)
            if char in ".,":
                joins = bool(before) and bool(after) and {unicodedata.category(c) for c in (before, after)} == {"Nd"}
                kept.append("0" if joins else " ")
            elif category == "Nd":
                kept.append("0")
            elif category[0] in "PSZ" or category == "Cc":
                kept.append(" ")
            elif category != "Mn":
                kept.append(unicodedata.normalize("NFD", char.lower())[0])
            else:
                kept.append("")
        # An accent parts two digits: "1\u03012" reads 0, then 0.
        out: list[str] = []
        for at, char in enumerate(kept):
            if not (char == "0" and at and kept[at - 1] == "0"):
                out.append(char)
        text = "".join(out)
    if not chars:
        text = "".join(
            f" {char} " if any(a <= ord(char) < b for a, b in UNSPACED) and char != " " else char for char in text
        )
    return text.split()


def shingled(text: str, ngram: int, chars: bool, full: bool) -> list[tuple[str, ...]]:
    tokens = words(text, chars, full)
    if chars:
        tokens = list(" ".join(tokens))
    if len(tokens) < ngram:
        return [tuple(tokens)] if tokens else []
    return [tuple(tokens[at : at + ngram]) for at in range(len(tokens) - ngram + 1)]


@pytest.mark.parametrize("chars", [False, True])
@pytest.mark.parametrize("full", [False, True])
@given(TEXTS, st.integers(1, 6))
@settings(max_examples=150, deadline=None)
def test_equal_shingles_have_equal_hashes_and_others_have_not(
    chars: bool, full: bool, texts: list[str], ngram: int
) -> None:
    expected = [shingled(text, ngram, chars, full) for text in texts]
    found, counts = Shingler(ngram, chars, full).of_many(texts)
    assert counts.tolist() == [len(own) for own in expected]
    names: dict[tuple[str, ...], int] = {}
    for name, value in zip((name for own in expected for name in own), found.tolist(), strict=True):
        assert names.setdefault(name, value) == value
    assert len(set(names.values())) == len(names)


@pytest.mark.parametrize("chars", [False, True])
@given(st.lists(st.sampled_from(["word", "Été", "1,234", "日本", " " * 70, "x" * 200, "7", ".", "."]), max_size=60))
@settings(max_examples=100, deadline=None)
def test_pieces_of_a_long_text_give_what_the_whole_gives(chars: bool, parts: list[str]) -> None:
    text = " ".join(parts)
    shingler = Shingler(3, chars, True)
    whole = set(shingler.of_many([text])[0].tolist())
    was, module.PIECE = module.PIECE, 300
    try:
        pieces = {value for piece in shingler.of_one(text) for value in piece.tolist()}
    finally:
        module.PIECE = was
    assert pieces == whole


def test_hashes_are_pinned() -> None:
    """Another hash would silently make another corpus of half-done work, or of another machine's."""
    assert mixed(np.array([1], np.uint64)).tolist() == [6238072747940578789]
    assert draw(0, 1, 2).tolist() == draw(0, 1, 3).tolist()[:2]
    assert len({*draw(0, 1, 50).tolist(), *draw(0, 2, 50).tolist(), *draw(1, 1, 50).tolist()}) == 150
    values = draw(5, 0, 10)
    twice = np.concatenate([values, values])
    alone = spans(values, np.array([2]), np.array([6]))[0]
    assert spans(twice, np.array([2, 12]), np.array([6, 16])).tolist() == [alone] * 2
    assert Shingler(2, False, True).of_many(["Hello, wörld 42"])[0].tolist() == PINNED
