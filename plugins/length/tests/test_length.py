"""Limits on characters and words."""

from __future__ import annotations

import pytest
from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import KEEP, RowFilter, Verdict
from lmgraft_length.length import Length
from lmgraft_length.plugin import LengthConfig, lmgraft_filter


def reasons(texts: list[str], **settings: int) -> list[str]:
    batch = [Document(id=str(number), text=text) for number, text in enumerate(texts)]
    verdicts = Length(LengthConfig(**settings)).judge(batch)
    assert [verdict.keep for verdict in verdicts] == [not verdict.reason for verdict in verdicts]
    return [verdict.reason for verdict in verdicts]


def test_limits_are_included() -> None:
    texts = ["", "a b", "a b c", "a b c d"]
    assert reasons(texts, min_words=2, max_words=3) == ["too_few_words", "", "", "too_many_words"]
    assert reasons(texts, min_chars=3, max_chars=5) == ["too_few_chars", "", "", "too_many_chars"]


def test_nothing_is_dropped_without_limits() -> None:
    assert reasons(["", "a" * 100_000]) == ["", ""]


def test_zero_is_a_limit() -> None:
    assert reasons(["", " ", "a"], max_words=0) == ["", "", "too_many_words"]


def test_characters_are_code_points_and_come_first() -> None:
    assert reasons(["日本語"], max_chars=3, max_words=1) == [""]
    assert reasons(["日本語 です"], max_chars=3, max_words=1) == ["too_many_chars"]


def test_words_are_separated_by_any_white_space() -> None:
    assert reasons(["a\tb\n\nc\u00a0d"], min_words=4, max_words=4) == [""]


def test_chats_and_pairs_count_all_their_texts() -> None:
    messages = [{"role": "user", "content": "one two"}, {"role": "assistant", "content": None}]
    chat = Document(id="chat", messages=messages)
    pair = Document(id="pair", prompt="one", chosen="two", rejected="")
    exact = Length(LengthConfig(min_words=2, max_words=2))
    assert exact.judge([chat, pair]) == [KEEP, KEEP]
    assert Length(LengthConfig(min_chars=7)).judge([chat, pair]) == [KEEP, Verdict.drop("too_few_chars")]


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 0),
        ({"min_words": 3, "max_words": 3}, 0),
        ({"min_words": 4, "max_words": 3}, 1),
        ({"min_chars": 4, "max_chars": 3, "min_words": -1}, 2),
    ],
)
def test_settings_are_checked(settings: dict[str, int], count: int) -> None:
    assert len(list(LengthConfig(**settings).check())) == count


def test_the_hook_offers_a_row_filter() -> None:
    (component,) = lmgraft_filter()
    assert component.name == "length"
    assert isinstance(Length(LengthConfig()), RowFilter)


def test_rows_without_an_answer() -> None:
    def chat(*turns: str) -> Document:
        roles = ("user", "assistant")
        return Document(id="c", messages=[{"role": roles[i % 2], "content": turn} for i, turn in enumerate(turns)])

    rows = [
        chat("A?", "B"),
        chat("A?"),
        chat("A?", " "),
        chat("A?", "B", "C?", ""),
        Document(id="p", prompt="A?", chosen="B", rejected="C"),
        Document(id="p", prompt="A?", chosen="", rejected="C"),
        Document(id="p", prompt="A?", chosen="B", rejected=" "),
        Document(id="t", text=""),
    ]
    short = "too_short_answer"
    verdicts = Length(LengthConfig(min_answer_chars=1)).judge(rows)
    assert [verdict.reason for verdict in verdicts] == ["", short, short, short, "", short, short, ""]
