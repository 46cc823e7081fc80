"""The tasks: each draws a problem, and knows its right answer and a wrong one that looks like it.

A wrong answer has as many characters as the right one wherever that can be (``contains`` answers yes and no, each half
of the time), so that nobody can choose between the two by their length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from lmgraft_drills.words import WORDS

__all__ = ["MAKERS", "Drill"]

LETTERS = "abcdefghijklmnopqrstuvwxyz"
CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"


@dataclass(frozen=True, slots=True)
class Drill:
    """One problem: what is asked, and two answers to it."""

    question: str
    right: str
    wrong: str
    problem: str
    """What is asked whatever the words: two drills of one problem have the same right answer."""


def add(draw: Random) -> Drill:
    a, b = draw.randint(2, 60), draw.randint(2, 39)
    total = a + b
    wrong = _near(draw, total)
    question = draw.choice(["What is {} + {}?", "Add {} and {}.", "How much is {} plus {}?"]).format(a, b)
    return Drill(question, f"{a} + {b} is {total}.", f"{a} + {b} is {wrong}.", f"{a}+{b}")


def contains(draw: Random) -> Drill:
    word, yes = draw.choice(WORDS), draw.random() < 0.5
    letter = draw.choice(sorted(set(word))) if yes else draw.choice([c for c in LETTERS if c not in word])
    answers = {True: f"Yes, {word} has the letter {letter}.", False: f"No, {word} has no letter {letter}."}
    question = draw.choice(["Does {} have the letter {}?", "Is there a letter {1} in {0}?"]).format(word, letter)
    return Drill(question, answers[yes], answers[not yes], f"{letter} in {word}")


def copy(draw: Random) -> Drill:
    words = draw.sample(WORDS, 3)
    question = draw.choice(["Repeat these words: {}.", "Say this again: {}."]).format(" ".join(words))
    return Drill(question, _listed(words), _listed(_shuffled(draw, words)), f"copy {words}")


def element(draw: Random) -> Drill:
    values = draw.sample(range(10, 100), 3)
    index = draw.randrange(3)
    wrong = values[(index + draw.choice([1, 2])) % 3]
    question = draw.choice(["What is {}[{}] in Python?", "What does {}[{}] give in Python?"]).format(values, index)
    return Drill(question, f"It is {values[index]}.", f"It is {wrong}.", f"{values}[{index}]")


def last_letter(draw: Random) -> Drill:
    name = "_".join(draw.sample(WORDS, 2))
    wrong = draw.choice(sorted({c for c in name if c.isalpha()} - {name[-1]}))
    question = draw.choice(["What is the last letter of {}?", "Which letter does {} end with?"]).format(name)
    answer = f"The last letter of {name} is "
    return Drill(question, f"{answer}{name[-1]}.", f"{answer}{wrong}.", f"last {name}")


def larger(draw: Random) -> Drill:
    low = draw.choice([10, 100])
    a, b = draw.sample(range(low, 10 * low), 2)
    wanted, pick = draw.choice([("larger", max), ("smaller", min)])
    question = draw.choice(["Which number is {}, {} or {}?", "Which is the {} one of {} and {}?"]).format(wanted, a, b)
    right = pick(a, b)
    answer = f"The {wanted} number is "
    return Drill(question, f"{answer}{right}.", f"{answer}{a + b - right}.", f"{wanted} {min(a, b)} {max(a, b)}")


def maximum(draw: Random) -> Drill:
    values = draw.sample(range(10, 100), 3)
    name, pick = draw.choice([("max", max), ("min", min)])
    right = pick(values)
    wrong = draw.choice([value for value in values if value != right])
    question = draw.choice(["What does {}({}) return in Python?", "Evaluate {}({})."]).format(name, values)
    return Drill(question, f"It returns {right}.", f"It returns {wrong}.", f"{name}({sorted(values)})")


def reverse(draw: Random) -> Drill:
    words = draw.sample(WORDS, 3)
    right = words[::-1]
    question = draw.choice(["Reverse the order of these words: {}.", "Say these words backwards: {}."])
    return Drill(question.format(" ".join(words)), _listed(right), _listed(_shuffled(draw, right)), f"reverse {words}")


def series(draw: Random) -> Drill:
    first, step = draw.randint(1, 60), draw.randint(2, 9)
    shown = [first + step * i for i in range(4)]
    right = first + 4 * step
    wording = draw.choice(["Which number comes next: {}?", "Continue the series {}."])
    question = wording.format(", ".join(map(str, shown)))
    return Drill(question, f"The next number is {right}.", f"The next number is {_near(draw, right)}.", f"{shown}")


def sort(draw: Random) -> Drill:
    values = draw.sample(range(10, 100), 3)
    right = sorted(values)
    question = draw.choice(["Sort these numbers: {}.", "Put {} in ascending order."]).format(" ".join(map(str, values)))
    return Drill(question, _listed(right), _listed(_shuffled(draw, right)), f"sort {values}")


def spell(draw: Random) -> Drill:
    syllables = draw.randint(2, 3)
    name = "".join(draw.choice(CONSONANTS) + draw.choice(VOWELS) for _ in range(syllables))
    question = draw.choice(["Spell the name {}.", "How is the name {} spelt?"]).format(name)
    return Drill(question, "-".join(name) + ".", "-".join(_shuffled(draw, name)) + ".", f"spell {name}")


#: By the names of the setting ``tasks``.
MAKERS: Mapping[str, Callable[[Random], Drill]] = {
    make.__name__: make
    for make in (add, contains, copy, element, last_letter, larger, maximum, reverse, series, sort, spell)
}


def _near(draw: Random, value: int) -> int:
    """Another number of as many digits, a slip away."""
    slips = [value + slip for slip in (-10, -2, -1, 1, 2, 10)]
    return draw.choice([slip for slip in slips if slip > 0 and len(str(slip)) == len(str(value))])


def _shuffled(draw: Random, items: Sequence[object]) -> list[object]:
    """The items with two neighbours exchanged that differ: one slip, wherever it falls."""
    places = [i for i in range(len(items) - 1) if items[i] != items[i + 1]]
    at = draw.choice(places)
    changed = list(items)
    changed[at], changed[at + 1] = changed[at + 1], changed[at]
    return changed


def _listed(items: Sequence[object]) -> str:
    return " ".join(map(str, items)) + "."
