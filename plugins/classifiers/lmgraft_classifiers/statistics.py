"""A text as a few numbers that tell prose from lists, menus, tables and noise, in any language with spaces."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["NAMES", "statistics"]

NAMES = (
    *("log_characters", "log_words", "log_lines", "word_length", "line_words", "sentence_words"),
    *("letters", "capitals", "digits", "blanks", "signs", "distinct_words", "function_words", "commonest_word"),
    *("full_lines", "bullet_lines", "repeated_lines", "commas", "quotes", "brackets", "addresses", "entropy"),
)
WORD = re.compile(r"[^\W\d_]+")
SENTENCE_END = re.compile(r"[.!?\u3002\uff01\uff1f]+(?=\s|$)")
FULL_LINE = re.compile(r"[.!?:;,\"'\u201d\u2019)\u3002]$")
BULLET = re.compile(r"(?:[-*\u2022\u00b7\u25cf>|+#]|\d+[.)])(?:\s|$)")
ADDRESS = re.compile(r"https?://|www\.|@\w+\.")
COMMON = """the of and to in a is that it was for on are as with they at be this from have or by not but what all were
when we there can an your which their if will each about how he she his her them these so would has more no"""
FUNCTION_WORDS = frozenset(COMMON.split())


def statistics(texts: Sequence[str]) -> npt.NDArray[np.float64]:
    """One row for each text, one column for each of :data:`NAMES`; shares lie from 0 to 1, entropy is in bits."""
    return np.array([_row(text) for text in texts], dtype=np.float64).reshape(-1, len(NAMES))


def _row(text: str) -> list[float]:
    words = WORD.findall(text)
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    characters, number = len(text), max(len(words), 1)
    return [
        *(math.log1p(characters), math.log1p(len(words)), math.log1p(len(lines))),
        sum(map(len, words)) / number,
        len(words) / max(len(lines), 1),
        len(words) / max(len(SENTENCE_END.findall(text)), 1),
        *_shares(text),
        *_shares_of_words([word.lower() for word in words]),
        *_shares_of_lines(lines),
        text.count(",") / number,
        sum(map(text.count, "\"'\u201c\u201d\u2019")) / number,
        sum(map(text.count, "()[]{}<>")) / number,
        len(ADDRESS.findall(text)) / number,
        _entropy(text),
    ]


def _shares(text: str) -> list[float]:
    # Of a text's characters, each kind is counted once.
    kinds = [0] * 5
    for character, times in Counter(text).items():
        if character.isalpha():
            kinds[0] += times
            kinds[1] += times * character.isupper()
        elif character.isdigit():
            kinds[2] += times
        elif character.isspace():
            kinds[3] += times
        else:
            kinds[4] += times
    return [number / max(len(text), 1) for number in kinds]


def _shares_of_words(words: list[str]) -> list[float]:
    times = Counter(words)
    number = max(len(words), 1)
    function = sum(times[word] for word in FUNCTION_WORDS & times.keys())
    return [len(times) / number, function / number, max(times.values(), default=0) / number]


def _shares_of_lines(lines: list[str]) -> list[float]:
    number = max(len(lines), 1)
    full, bullets = (sum(bool(found) for found in map(search, lines)) for search in (FULL_LINE.search, BULLET.match))
    return [full / number, bullets / number, 1 - len(set(lines)) / number if lines else 0.0]


def _entropy(text: str) -> float:
    counts = np.array(list(Counter(text).values()), dtype=np.float64)
    shares = counts / max(len(text), 1)
    return float(-(shares * np.log2(shares)).sum())
