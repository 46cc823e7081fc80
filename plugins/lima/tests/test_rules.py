"""What each rule of one chat finds, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest
from lmgraft_lima.plugin import LimaConfig
from lmgraft_lima.rules import broken_rule

LOOSE = {"min_chars": 1, "min_score": None}


def broken(answer: str, score: Any = None, **settings: Any) -> str:
    messages = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": answer}]
    return broken_rule(messages, score, LimaConfig(**{**LOOSE, **settings}))


@pytest.mark.parametrize(
    "answer",
    [
        "I would boil it.",
        "Well, I've seen it.",
        "That is my view.",
        "In short, I, too, prefer tea. Though I think of it.",
        "Mine is blue.",
        "`x` and I agree",
        "I 've been busy .",
        "> You see it.\n\nI do.",
    ],
)
def test_answers_in_the_first_person(answer: str) -> None:
    assert broken(answer) == "first_person"
    assert broken(answer, first_person=False) == ""


@pytest.mark.parametrize(
    "answer",
    [
        "World War I was long.",
        "Use an I/O scheduler.",
        "A.I. is broad.",
        'She said: "I love my cat."',
        "```\nI = my + 1\n```",
        "Type `my_var` or `I` here.",
        "Elizabeth I of England.",
        "MYSELF is a poem; Mytilene a town.",
        "Tom wrote:\n> I love my cat.\nHe does.",
        "Episode I is the first.",
    ],
)
def test_what_only_looks_like_the_first_person(answer: str) -> None:
    assert broken(answer) == ""


@pytest.mark.parametrize(
    "answer",
    [
        "As mentioned, boil it.",
        "As mentioned above, boil it.",
        "As described in the accepted answer, wait.",
        "The accepted answer is wrong.",
        "As already noted by Tom, it is hot.",
        "See Stack Overflow.",
        "The other answers are right.",
        "See the comments.",
        "Please upvote.",
    ],
)
def test_answers_that_refer_to_others(answer: str) -> None:
    assert broken(answer) == "cross_reference"
    assert broken(answer, cross_references=False) == ""


@pytest.mark.parametrize(
    "answer",
    [
        "There is no universally accepted answer.",
        "The meaning, as stated in The Hitchhiker's Guide, is 42.",
        "The problem as stated is hard.",
        "`as mentioned` is a phrase.",
    ],
)
def test_what_only_looks_like_a_reference(answer: str) -> None:
    assert broken(answer) == ""


@pytest.mark.parametrize(
    "answer",
    [
        "<p>Boil it.</p>",
        "Look<br/>here",
        "![cat](http://x.org/c.png)",
        "Read [this](https://x.org).",
        "www.x.org has it",
        "```\nx = 1",
    ],
)
def test_answers_whose_markup_is_left_over(answer: str) -> None:
    assert broken(answer) == "answer_format"
    assert broken(answer, answer_format=False) == ""


@pytest.mark.parametrize(
    "answer", ["```html\n<p>Hi</p>\n```", "Write `<br>` there.", "a < b and c > d", "- one\n- two"]
)
def test_code_and_lists_stay(answer: str) -> None:
    assert broken(answer) == ""


def test_lengths_and_scores_at_their_limits() -> None:
    assert broken("x" * 9, min_chars=10) == "too_short"
    assert broken("x" * 10, min_chars=10, max_chars=10) == ""
    assert broken("x" * 11, max_chars=10) == "too_long"
    assert broken("fine", 9.5, min_score=10) == "low_score"
    assert broken("fine", 10, min_score=10) == ""
    assert broken("fine", None, min_score=10) == ""
    for unrated in ("high", "3", True, float("nan"), [1]):
        assert broken("fine", unrated, min_score=10) == ""
    assert broken("fine", -(10**400), min_score=10) == "low_score"
    assert broken("  ", min_chars=None) == "no_answer"
    assert broken_rule([{"role": "user", "content": "?"}], 50, LimaConfig(min_chars=None)) == "no_answer"


@pytest.mark.parametrize(
    ("settings", "words_of_it"),
    [
        ({"examples": 0}, "examples is 0"),
        ({"min_chars": 9, "max_chars": 3}, "no answer has both"),
        ({"quota": 0}, "quota is 0"),
        ({"quotas": {"a": -1}}, "quotas.a is -1"),
        ({"topics": 5000}, "at most 4096"),
        ({"temperature": 0.01}, "at least 0.1"),
        ({"temperature": float("nan")}, "at least 0.1"),
        ({"min_score": float("nan")}, "min_score is no number"),
        ({"topic": ""}, "topic is empty"),
    ],
)
def test_nonsense_is_refused(settings: dict[str, Any], words_of_it: str) -> None:
    (problem,) = LimaConfig(**settings).check()
    assert words_of_it in str(problem)
