"""Gopher's repetition rules, a document on either side of each limit."""

from __future__ import annotations

import itertools
import string
from typing import Any

import pytest
from lmgraft.seams.data_source import Document
from lmgraft_web_rules.gopher_repetition import GopherRepetition
from lmgraft_web_rules.plugin import GopherRepetitionConfig

OFF: dict[str, Any] = {
    **dict.fromkeys(("max_dup_paragraphs", "max_dup_paragraph_chars", "max_dup_lines", "max_dup_line_chars")),
    "top_n_grams": {},
    "dup_n_grams": {},
}


def reason(text: str, **settings: Any) -> str:
    (verdict,) = GopherRepetition(GopherRepetitionConfig(**settings)).judge([Document(id="a", text=text)])
    return verdict.reason


def alone(text: str, **rule: Any) -> str:
    return reason(text, **{**OFF, **rule})


def words(count: int) -> list[str]:
    """Different words of three letters."""
    return ["".join(three) for three in itertools.islice(itertools.product(string.ascii_lowercase, repeat=3), count)]


@pytest.mark.parametrize(("again", "expected"), [(3, ""), (4, "dup_para_frac")])
def test_paragraphs(again: int, expected: str) -> None:
    parts = words(10 - again) + ["aaa"] * again
    assert alone("\n\n".join(parts), max_dup_paragraphs=0.3) == expected
    assert alone("\n \n" + "\n\n\n\n\n".join(parts) + "\n\n", max_dup_paragraphs=0.3) == expected


def test_white_space_at_the_ends_is_no_paragraph_but_an_empty_line_is_a_line() -> None:
    assert alone("\n\naaa\n\naaa\n\n", max_dup_paragraphs=0.5) == ""
    assert alone("\n\naaa\n\naaa\n\nb", max_dup_lines=0.25) == ""  # "", aaa, aaa, b
    assert alone("\n\naaa\n\naaa\n\nb", max_dup_lines=0.24) == "dup_line_frac"


@pytest.mark.parametrize(("longer", "expected"), [(0, ""), (1, "dup_para_char_frac")])
def test_characters_of_paragraphs(longer: int, expected: str) -> None:
    same = "s" * (20 + longer)
    text = "\n\n".join([same, same, "r" * (56 - 2 * longer)])
    assert len(text) == 100
    assert alone(text, max_dup_paragraph_chars=0.2) == expected


@pytest.mark.parametrize(("again", "expected"), [(3, ""), (4, "dup_line_frac")])
def test_lines(again: int, expected: str) -> None:
    assert alone("\n".join(words(10 - again) + ["aaa"] * again), max_dup_lines=0.3) == expected


@pytest.mark.parametrize(("longer", "expected"), [(0, ""), (1, "dup_line_char_frac")])
def test_characters_of_lines(longer: int, expected: str) -> None:
    same = "s" * (20 + longer)
    text = "\n\n".join([same, "r" * (56 - 2 * longer), same])
    assert alone(text, max_dup_line_chars=0.2) == expected


@pytest.mark.parametrize(("n", "share"), [(2, 0.2), (3, 0.18), (4, 0.16)])
def test_the_most_frequent_n_gram(n: int, share: float) -> None:
    phrase = ["zz" + letter for letter in "abcd"[:n]]
    size, count = 4 * n - 1, 5
    found = words(200)
    mixed = [word for five in range(count) for word in (*phrase, *found[five * 9 : five * 9 + 9])]
    length = round(count * size / share)
    text = " ".join(mixed) + " " + "y" * (length - len(" ".join(mixed)) - 1)
    assert alone(text, top_n_grams={n: count * size / len(text)}) == ""
    assert alone(text[:-1], top_n_grams={n: count * size / len(text)}) == f"top_{n}_gram"
    assert alone(text, top_n_grams={n: None}) == ""


def test_of_equally_frequent_n_grams_the_first_counts() -> None:
    assert alone("aa bb cccccc dddddd", top_n_grams={2: 5 / 19}) == ""  # "aa bb", though later pairs are longer
    assert alone("cccccc dddddd aa bb", top_n_grams={2: 12 / 19}) == "top_2_gram"
    assert alone("aa bb cc aa bb x cccccc dddddd", top_n_grams={2: 10 / 30}) == ""
    assert alone("one", top_n_grams={2: 0.0}) == ""
    assert reason("three short words") == "top_2_gram"


@pytest.mark.parametrize(("n", "share"), [(5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10)])
def test_n_grams_that_were_there_before(n: int, share: float) -> None:
    phrase = ["z" + letter for letter in "abcdefghij"[:n]]
    text = " ".join([*phrase, *words(20), *phrase])
    text += " " + "y" * (300 - len(text) - 1)
    assert alone(text, dup_n_grams={n: 2 * n / 300}) == ""
    assert alone(text[:-1], dup_n_grams={n: 2 * n / 300}) == f"duplicated_{n}_n_grams"
    limits = GopherRepetitionConfig().dup_n_grams
    assert limits[n] == share


def test_no_character_counts_twice() -> None:
    same = " ".join(["aa"] * 16)  # from the second word on, three fives are stepped over
    assert len(same) == 47
    assert alone(same, dup_n_grams={5: 30 / 47}) == ""
    assert alone(same, dup_n_grams={5: 29.9 / 47}) == "duplicated_5_n_grams"


def test_n_grams_are_compared_put_together() -> None:
    """``ab c`` and ``a bc`` are the same five words of characters."""
    text = "ab c d e f ... a bc d e f"
    assert alone(text, dup_n_grams={5: 0.01}) == "duplicated_5_n_grams"
    assert alone("ab c d e f ... a bd d e f", dup_n_grams={5: 0.01}) == ""


def test_the_order_of_reasons() -> None:
    assert reason("") == "empty"
    assert reason("a\n\na\n\na") == "dup_para_frac"
    assert reason("a\na\na") == "dup_line_frac"
    assert reason(" ".join(words(300))) == ""


def test_settings_that_cannot_be() -> None:
    assert list(GopherRepetitionConfig().check()) == []
    config = GopherRepetitionConfig(max_dup_lines=-0.1, top_n_grams={1: 0.1}, dup_n_grams={5: -1.0})
    assert len(list(config.check())) == 3
