"""FineWeb's rules, a document on either side of each limit."""

from __future__ import annotations

import itertools
import string
from typing import Any

import pytest
from lmgraft.seams.data_source import Document
from lmgraft_web_rules.fineweb import Fineweb
from lmgraft_web_rules.plugin import FinewebConfig

OFF: dict[str, Any] = dict.fromkeys(
    ("min_line_punctuation", "max_short_lines", "max_dup_line_chars", "max_newlines"),
)


def alone(text: str, **rule: Any) -> str:
    return reason(text, **{**OFF, **rule})


def reason(text: str, **settings: Any) -> str:
    return Fineweb(FinewebConfig(**settings)).judge([Document(id="a", text=text)])[0].reason


def words(count: int) -> list[str]:
    return ["".join(three) for three in itertools.islice(itertools.product(string.ascii_lowercase, repeat=3), count)]


@pytest.mark.parametrize("text", ["", "\n", " \n\t\n\u2003"])
def test_empty(text: str) -> None:
    assert reason(text) == "empty"


@pytest.mark.parametrize("end", [".", "?", "!", "。", "؟", "‼"])
def test_lines_that_end_a_sentence(end: str) -> None:
    marked = [word + end for word in words(3)]
    rest = words(25)[3:]
    assert alone("\n \n".join(marked + rest), min_line_punctuation=0.12) == ""
    assert alone("\n \n".join([*marked, *rest, "more"]), min_line_punctuation=0.12) == "line_punct_ratio"


def test_other_ends() -> None:
    plain = "\n".join(words(30))
    assert alone(plain + "”", min_line_punctuation=0.01) == "line_punct_ratio"
    assert alone(plain + "”", min_line_punctuation=0.01, stop_chars="”") == ""
    assert alone(plain + ". ", min_line_punctuation=0.01) == "line_punct_ratio"  # white space is what it ends in
    assert alone(plain, min_line_punctuation=0.12, allow_no_punctuation=True) == ""
    assert alone(plain + ".", min_line_punctuation=0.12, allow_no_punctuation=True) == "line_punct_ratio"


@pytest.mark.parametrize(("short", "expected"), [(67, ""), (68, "short_line_ratio")])
def test_short_lines(short: int, expected: str) -> None:
    lines = ["s" * 30] * short + ["l" * 31] * (100 - short)
    assert alone("\n\n".join(lines), max_short_lines=0.67) == expected


@pytest.mark.parametrize(("longer", "expected"), [(0, ""), (1, "char_dup_ratio")])
def test_lines_that_were_there_before(longer: int, expected: str) -> None:
    same = "s" * (10 + longer)
    text = "\n".join([same, "r" * (1000 - 2 * len(same)), "", same])
    assert alone(text, max_dup_line_chars=0.01) == expected


@pytest.mark.parametrize(("feeds", "expected"), [(30, ""), (31, "list_ratio")])
def test_line_feeds(feeds: int, expected: str) -> None:
    assert alone(" ".join(words(100)) + "\n" * feeds, max_newlines=0.3) == expected


def test_the_order_of_reasons() -> None:
    assert reason("a\na\na") == "line_punct_ratio"
    assert reason("a.\na.\na.") == "short_line_ratio"
    long = "This line is longer than thirty characters."
    assert reason(f"{long}\n{long}\n{long}") == "char_dup_ratio"
    assert reason(long + "\n" * 9) == "list_ratio"
    assert reason(long) == ""


def test_settings_that_cannot_be() -> None:
    assert list(FinewebConfig().check()) == []
    assert len(list(FinewebConfig(max_short_lines=2.0, short_line=-1, max_newlines=-0.5).check())) == 3
