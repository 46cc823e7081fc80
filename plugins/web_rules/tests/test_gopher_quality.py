"""Gopher's quality rules, a document on either side of each limit."""

from __future__ import annotations

import itertools
import string

import pytest
from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import KEEP
from lmgraft_web_rules.gopher_quality import GopherQuality
from lmgraft_web_rules.plugin import GopherQualityConfig


def reason(text: str, **settings: object) -> str:
    (verdict,) = GopherQuality(GopherQualityConfig(**settings)).judge([Document(id="a", text=text)])  # type: ignore[arg-type]
    assert (verdict is KEEP) == (not verdict.reason)
    return verdict.reason


def words(count: int, length: int = 5) -> list[str]:
    """``count`` different words of letters, none of them a stop word."""
    letters = itertools.product(string.ascii_lowercase, repeat=3)
    return [("".join(three) + "x" * length)[:length] for three in itertools.islice(letters, count)]


def text(count: int, *others: str, length: int = 5) -> str:
    """``count`` words in all: others, ``the`` and ``and`` among them."""
    return " ".join([*others, "the", "and", *words(count - len(others) - 2, length)])


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (text(49), "gopher_short_doc"),
        (text(50), ""),
        (text(50, "("), "gopher_short_doc"),  # a symbol is no word
        (text(51, "("), ""),
        (" ".join(["the", "and"] * 50_000), ""),
        (" ".join(["the", "and"] * 50_000 + ["the"]), "gopher_long_doc"),
        (text(50, length=3), ""),
        (text(50, "ab", length=3), "gopher_below_avg_threshold"),
        (text(51, "(", length=3), ""),  # its one character is not counted
        (text(50, *words(14, 11), length=10), ""),  # 3 + 3 + 14 * 11 + 34 * 10 = 500 characters
        (text(50, *words(15, 11), length=10), "gopher_above_avg_threshold"),
        (text(100, *["a#b"] * 10), ""),
        (text(100, *["a#b"] * 11), "gopher_too_many_hashes"),
        (text(100, *["…"] * 10), ""),
        (text(100, *["…"] * 11), "gopher_too_many_ellipsis"),
        (text(100, *["…", "..."] * 5, "..."), "gopher_too_many_ellipsis"),
        (text(100, *["12"] * 20), ""),
        (text(100, *["12"] * 21), "gopher_below_alpha_threshold"),
        (" ".join(["the", *words(60)]), "gopher_enough_stop_words"),
        (" ".join(["the", "the", *words(60)]), "gopher_enough_stop_words"),
        (" ".join(["The", "and", *words(60)]), "gopher_enough_stop_words"),  # capital letters count
        (" ".join([*words(200), "the", "and"]), ""),  # far from the beginning
    ],
)
def test_limits(shown: str, expected: str) -> None:
    assert reason(shown) == expected


@pytest.mark.parametrize(("bullets", "expected"), [(9, ""), (10, "gopher_too_many_bullets")])
@pytest.mark.parametrize("bullet", ["- ", "•", "  - "])
def test_bullets(bullets: int, expected: str, bullet: str) -> None:
    marked = [bullet + text(12)] * bullets + [text(12)] * (10 - bullets)
    assert reason("\n".join(marked)) == expected


@pytest.mark.parametrize(("ends", "expected"), [(3, ""), (4, "gopher_too_many_end_ellipsis")])
@pytest.mark.parametrize("end", ["...", "…", "... "])
def test_lines_that_trail_off(ends: int, expected: str, end: str) -> None:
    lines = [text(12) + end] * ends + [text(12) + "."] * (10 - ends)
    assert reason("\r\n".join(lines)) == expected


def test_null_turns_a_rule_off() -> None:
    assert reason("the and", min_words=None) == ""
    assert (
        reason("12 and", min_words=None, min_mean_word_length=None, min_alpha_words=None) == "gopher_enough_stop_words"
    )
    off = dict.fromkeys(("min_words", "min_stop_words"))
    assert reason("", **off) == ""
    assert reason("( (", **off, min_alpha_words=None) == ""


def test_other_stop_words() -> None:
    assert reason(text(60), stop_words=["der", "die"]) == "gopher_enough_stop_words"
    assert reason(text(60, "der", "die"), stop_words=["der", "die"]) == ""


def test_settings_that_cannot_be() -> None:
    assert list(GopherQualityConfig().check()) == []
    config = GopherQualityConfig(
        min_words=5, max_words=4, max_bullet_lines=1.5, min_stop_words=9, max_symbol_ratio=-1.0
    )
    assert len(list(config.check())) == 4


def test_a_chat_is_kept() -> None:
    chat = Document(id="a", messages=[{"role": "user", "content": "x"}])
    assert GopherQuality(GopherQualityConfig()).judge([chat]) == [KEEP]
