"""What is wrong with some answers on question-and-answer sites, as rows to be left out: LIMA (Zhou et al. 2023,
section 2.1) drops answers that are written in the first person, that refer to other answers, that are short, that are
rated low, or that keep the page's markup."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["FLAWS"]


def first_person(answer: str, score: int) -> tuple[str, int]:
    return f"I think, but I am not sure, that this is my answer: {answer}", score


def cross_reference(answer: str, score: int) -> tuple[str, int]:
    return f"As mentioned in the answer above: {answer}", score


def markup(answer: str, score: int) -> tuple[str, int]:
    return f"<p>{answer}</p><br/>", score


def rated_low(answer: str, score: int) -> tuple[str, int]:
    return answer, score % 10


def cut_short(answer: str, score: int) -> tuple[str, int]:
    """Nothing but the last character or two: no answer that a reader could use."""
    return answer[-2:], score


#: Each takes a right answer and its score, and gives the flawed ones.
FLAWS: tuple[Callable[[str, int], tuple[str, int]], ...] = (first_person, cross_reference, markup, rated_low, cut_short)
