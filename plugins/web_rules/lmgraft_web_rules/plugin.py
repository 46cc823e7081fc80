"""The light half of the rules for web pages: four filters, their settings and where their classes lie."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.errors import Problem
from lmgraft.hookspecs import hookimpl

__all__ = [
    "POLICY",
    "STOP_WORDS",
    "C4Config",
    "FinewebConfig",
    "GopherQualityConfig",
    "GopherRepetitionConfig",
    "WordSplitter",
    "WordsConfig",
    "lmgraft_filter",
]

#: The eight words of Rae et al. 2021, A.1.1.
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
#: What lines about cookies and terms hold (the C4 code released with the paper).
POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")


class WordSplitter(Enum):
    fast = "fast"
    spacy = "spacy"


@dataclass
class WordsConfig(ComponentConfig):
    """What the four have in common."""

    words: WordSplitter = WordSplitter.fast
    """What cuts text into words and sentences: ``fast`` (rules of our own, nothing to install) or ``spacy`` (spaCy's
    rules for English, so that every verdict is datatrove's; needs the extra ``spacy``)."""

    def needs(self) -> frozenset[str]:
        return frozenset({"columns:text"})

    def check(self) -> Iterator[Problem | str]:
        if self.words is WordSplitter.spacy and importlib.util.find_spec("spacy") is None:
            fact = f"{self.part or 'the filter'} is to split words as spaCy does (words: spacy)"
            remedy = "pip install 'lmgraft[spacy]', or words: fast"
            yield Problem(fact, "the library spacy is not installed", remedy)


@dataclass
class GopherQualityConfig(WordsConfig):
    """Limits as in the paper, both ends included; null turns a rule off."""

    min_words: int | None = 50
    """Fewest words that are not symbols throughout."""
    max_words: int | None = 100_000
    """Most words that are not symbols throughout."""
    min_mean_word_length: float | None = 3.0
    """Least mean length, in characters, of words that are not symbols throughout."""
    max_mean_word_length: float | None = 10.0
    """Greatest mean length of them."""
    max_symbol_ratio: float | None = 0.1
    """Most ``#`` for each word, and most ellipses (``...`` and ``…``) for each word."""
    max_bullet_lines: float | None = 0.9
    """Most lines, as a share of all, that begin with ``•`` or ``-``."""
    max_ellipsis_lines: float | None = 0.3
    """Most lines, as a share of all, that end with an ellipsis."""
    min_alpha_words: float | None = 0.8
    """Fewest words, as a share of all, with at least one letter."""
    min_stop_words: int | None = 2
    """Fewest different words of ``stop_words``."""
    stop_words: list[str] = field(default_factory=lambda: list(STOP_WORDS))
    """Words that running text of the language holds; capital letters count."""

    def check(self) -> Iterator[Problem | str]:
        yield from super().check()
        yield from _not_negative(self, "min_words", "max_words", "min_mean_word_length", "max_mean_word_length")
        yield from _not_negative(self, "max_symbol_ratio", "min_stop_words")
        yield from _shares(self, "max_bullet_lines", "max_ellipsis_lines", "min_alpha_words")
        yield from _ordered(self, "min_words", "max_words")
        yield from _ordered(self, "min_mean_word_length", "max_mean_word_length")
        if self.min_stop_words is not None and self.min_stop_words > len(set(self.stop_words)):
            yield f"min_stop_words is {self.min_stop_words}; stop_words holds {len(set(self.stop_words))} words"


@dataclass
class GopherRepetitionConfig(WordsConfig):
    """The greatest shares that are kept, as in Table A1 of the paper; null turns a rule off."""

    max_dup_paragraphs: float | None = 0.3
    """Paragraphs that were there before, of all paragraphs."""
    max_dup_paragraph_chars: float | None = 0.2
    """Characters in them, of the document's."""
    max_dup_lines: float | None = 0.3
    """Lines that were there before, of all lines."""
    max_dup_line_chars: float | None = 0.2
    """Characters in them, of the document's."""
    top_n_grams: dict[int, float | None] = field(default_factory=lambda: {2: 0.20, 3: 0.18, 4: 0.16})
    """Of the n words in a row that come most often: characters in all their occurrences, of the document's."""
    dup_n_grams: dict[int, float | None] = field(
        default_factory=lambda: {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
    )
    """Of n words in a row that were there before: their characters, none counted twice, of the document's."""

    def check(self) -> Iterator[Problem | str]:
        yield from super().check()
        yield from _not_negative(self, "max_dup_paragraphs", "max_dup_paragraph_chars")
        yield from _not_negative(self, "max_dup_lines", "max_dup_line_chars")
        for name in ("top_n_grams", "dup_n_grams"):
            grams: Mapping[int, float | None] = getattr(self, name)
            yield from (f"{name} names {n}-grams; n is at least 2" for n in grams if n < 2)
            low = [n for n, limit in grams.items() if limit is not None and not 0 <= limit < math.inf]
            yield from (f"{name} sets {grams[n]} for {n}; it is a share and cannot be negative" for n in low)


@dataclass
class C4Config(WordsConfig):
    """The lines that go and the pages that go; null (or false) turns a rule off."""

    min_sentences: int | None = 5
    """Fewest sentences in the lines that stay."""
    min_words_per_line: int | None = 3
    """Lines with fewer words (by white space) go."""
    max_word_length: int | None = 1000
    """Lines with a longer word (by white space) go."""
    terminal_punctuation: bool = True
    """Lines that do not end in ``.``, ``?``, ``!``, ``"`` or ``'``, or that end in ``...``, go. FineWeb sets false."""
    citations: bool = True
    """Cuts ``[1]``, ``[]``, ``[edit]`` and ``[citation needed]`` out of lines."""
    javascript: bool = True
    """Lines with the word ``javascript`` go."""
    policy: list[str] = field(default_factory=lambda: list(POLICY))
    """Lines with one of these phrases (lower case) go."""
    lorem_ipsum: bool = True
    """Pages with ``lorem ipsum`` in a line that reaches this rule go."""
    curly_bracket: bool = True
    """Pages with ``{`` in a line that reaches this rule go."""
    bad_words: list[str] = field(default_factory=list)
    """Pages with one of these words or phrases go, capitals or not. Empty by default: the paper's list is not ours to
    pass on."""

    def check(self) -> Iterator[Problem | str]:
        yield from super().check()
        yield from _not_negative(self, "min_sentences", "min_words_per_line", "max_word_length")
        for name in ("policy", "bad_words"):
            if any(not phrase.strip() for phrase in getattr(self, name)):
                yield f"{name} holds an empty phrase; every line has that"
        if any(phrase != phrase.lower() for phrase in self.policy):
            yield "policy holds capital letters; lines are compared in lower case"


@dataclass
class FinewebConfig(WordsConfig):
    """Limits of the paper; null turns a rule off."""

    min_line_punctuation: float | None = 0.12
    """Fewest lines, as a share of all, that end in one of ``stop_chars``."""
    allow_no_punctuation: bool = False
    """Keep a document in which no line at all ends so."""
    stop_chars: str | None = None
    """What ends a sentence, one character after another; null takes Unicode's sentence terminals."""
    max_short_lines: float | None = 0.67
    """Most lines, as a share of all, of at most ``short_line`` characters."""
    short_line: int = 30
    """Characters of a short line, this one included."""
    max_dup_line_chars: float | None = 0.01
    """Most characters in lines that were there before, as a share of all but line feeds."""
    max_newlines: float | None = 0.3
    """Most line feeds for each word."""

    def check(self) -> Iterator[Problem | str]:
        yield from super().check()
        yield from _shares(self, "min_line_punctuation", "max_short_lines")
        yield from _not_negative(self, "max_dup_line_chars", "max_newlines", "short_line")


def _not_negative(config: ComponentConfig, *names: str) -> Iterator[str]:
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 <= value < math.inf:
            yield f"{name} is {value}; it must be 0 or more, or null for no limit"


def _shares(config: ComponentConfig, *names: str) -> Iterator[str]:
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 <= value <= 1:
            yield f"{name} is {value}; it is a share of all and lies between 0 and 1, or null for no limit"


def _ordered(config: ComponentConfig, low: str, high: str) -> Iterator[str]:
    least, most = getattr(config, low), getattr(config, high)
    if least is not None and most is not None and least > most:
        yield f"{low} is {least} and {high} is {most}; nothing lies between them"


@hookimpl
def lmgraft_filter() -> list[Component[Any]]:
    return [
        Component(
            name="gopher_quality",
            target="lmgraft_web_rules.gopher_quality:GopherQuality",
            config=GopherQualityConfig,
            summary="Gopher's quality rules: words, symbols, bullets, stop words",
        ),
        Component(
            name="gopher_repetition",
            target="lmgraft_web_rules.gopher_repetition:GopherRepetition",
            config=GopherRepetitionConfig,
            summary="Gopher's repetition rules: lines, paragraphs, n-grams",
        ),
        Component(
            name="c4",
            target="lmgraft_web_rules.c4:C4",
            config=C4Config,
            summary="C4's rules: cuts lines, drops pages of few sentences",
        ),
        Component(
            name="fineweb",
            target="lmgraft_web_rules.fineweb:Fineweb",
            config=FinewebConfig,
            summary="FineWeb's rules: punctuation, short, repeated and many lines",
        ),
    ]
