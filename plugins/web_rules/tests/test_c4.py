"""C4's rules, lines and pages on either side of each limit."""

from __future__ import annotations

from typing import Any

import pytest
from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import KEEP, Verdict
from lmgraft_web_rules.c4 import C4
from lmgraft_web_rules.plugin import C4Config

GOOD = "One sentence is here. Two are here. Three are here! Are four here? Five are here."


def judged(text: str, **settings: Any) -> Verdict:
    return C4(C4Config(**settings)).judge([Document(id="a", text=text)])[0]


def lines(*others: str, **settings: Any) -> tuple[list[str], dict[str, int]]:
    """What is left of lines after a good one, and what was counted."""
    text = "\n".join([GOOD, *others])
    verdict = judged(text, **settings)
    assert verdict.keep
    left = text if verdict.text is None else verdict.text
    assert left.split("\n")[0] == GOOD
    return left.split("\n")[1:], dict(verdict.counts)


def test_a_good_page_is_kept_as_it_is() -> None:
    assert judged(GOOD) is KEEP
    assert judged(GOOD + "\n" + GOOD) is KEEP


@pytest.mark.parametrize("end", [".", "?", "!", '"', "'"])
def test_ends_that_stay(end: str) -> None:
    assert lines("It ends well" + end) == (["It ends well" + end], {})


@pytest.mark.parametrize("end", ["", ",", ":", "...", "….", "”", "。", ")"])
def test_ends_that_go(end: str) -> None:
    expected = (
        ([], {"no_terminal_punct": 1})
        if end != "…."
        else (
            [
                "It ends well….",
            ],
            {},
        )
    )
    assert lines("It ends well" + end) == expected
    assert lines("It ends well" + end, terminal_punctuation=False)[0] == ["It ends well" + end]


@pytest.mark.parametrize(
    ("line", "gone"),
    [
        ("Three words stay.", ""),
        ("Two go.", "too_few_words"),
        ("a" * 1000 + " is long.", ""),
        ("a" * 1001 + " is longer.", "too_long_word"),
        ("Please switch on JavaScript now.", "javascript"),
        ("Read our Terms of Use first.", "policy"),
        ("This site uses cookies too.", "policy"),
        ("We like cookies very much.", ""),
        ("Two go", "no_terminal_punct"),  # the first rule is the one that counts
    ],
)
def test_lines_that_go(line: str, gone: str) -> None:
    assert lines(line) == (([], {gone: 1}) if gone else ([line], {}))


def test_rules_that_are_off() -> None:
    assert lines("Two go.", min_words_per_line=None)[0] == ["Two go."]
    assert lines("JavaScript is a language.", javascript=False)[0] == ["JavaScript is a language."]
    assert lines("It uses cookies, it says.", policy=[])[0] == ["It uses cookies, it says."]
    assert lines("b" * 2000 + " is long.", max_word_length=None)[0] == ["b" * 2000 + " is long."]


def test_citations_are_cut_out() -> None:
    assert lines("It is so[1][citation needed] and [23]so.[edit]") == (["It is so and so."], {"citation": 4})
    assert lines("It is so.[note]") == ([], {"no_terminal_punct": 1})
    assert lines("It is so and so.[]", citations=False) == ([], {"no_terminal_punct": 1})
    # Words are counted before, and a mark that is gone may leave a space behind.
    assert lines("It is [1].") == (["It is ."], {"citation": 1})
    assert lines("It is so. [1]") == ([], {"citation": 1, "no_terminal_punct": 1})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Here is Lorem Ipsum for you.", "lorem_ipsum"),
        ("Here is lorem [1]ipsum for you.", "lorem_ipsum"),
        ("Here is lorem ipsum for you", ""),  # the line is gone before it is asked
        ("Here is a { for you.", "curly_bracket"),
        ("Here is javascript { for you.", ""),
        ("Here is a } for you.", ""),
    ],
)
def test_pages_that_go(line: str, reason: str) -> None:
    verdict = judged(GOOD + "\n" + line)
    assert (verdict.keep, "" if verdict.keep else verdict.reason) == (not reason, reason)
    off = judged(GOOD + "\n" + line, lorem_ipsum=False, curly_bracket=False)
    assert off.keep


def test_sentences() -> None:
    four = "One is here. Two are here. Three are here. Four are here."
    assert judged(four).reason == "too_few_sentences"
    assert judged(four, min_sentences=4) is KEEP
    assert judged(four, min_sentences=None) is KEEP
    assert judged(four + "\nFive are here, in a line.") is KEEP
    assert judged(four + ' He said: "So it is." Mr. Smith and Dr. Jones.', min_sentences=6) is KEEP
    assert (
        judged(four + ' He said: "So it is." Mr. Smith and Dr. Jones.', min_sentences=7).reason == "too_few_sentences"
    )
    gone = judged(four + "\nMenu\nMenu two")
    assert gone == Verdict(keep=False, reason="too_few_sentences", counts={"no_terminal_punct": 2})


def test_white_space_and_other_ends_of_lines() -> None:
    verdict = judged(f"  {GOOD}  \r\n\u2028One more is here.\x0bAnd one is here.")
    assert verdict.text == f"{GOOD}\nOne more is here.\nAnd one is here."
    assert verdict.reason == "lines"
    assert verdict.counts == {"no_terminal_punct": 1}


def test_bad_words() -> None:
    assert judged(GOOD, bad_words=["sentence"]).reason == "bad_words"
    assert judged(GOOD, bad_words=["Two ARE"]).reason == "bad_words"
    assert judged(GOOD, bad_words=["sent", "c++"]) is KEEP
    assert judged(GOOD + "\nin a menu", bad_words=["menu"]).reason == "bad_words"


def test_settings_that_cannot_be() -> None:
    assert list(C4Config().check()) == []
    assert len(list(C4Config(min_sentences=-1, policy=["Uses Cookies"], bad_words=[" "]).check())) == 3
