"""Splitting, tables of words and n-grams: what the four rest on."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmgraft.errors import UserError
from lmgraft.seams.data_source import Document
from lmgraft.testing.inputs import NASTY, texts
from lmgraft_web_rules import split_fast, split_spacy, vocabulary
from lmgraft_web_rules.c4 import C4
from lmgraft_web_rules.duplicates import repeated
from lmgraft_web_rules.fineweb import Fineweb
from lmgraft_web_rules.gopher_quality import GopherQuality
from lmgraft_web_rules.gopher_repetition import GopherRepetition
from lmgraft_web_rules.ngrams import Grams, dup_characters, top_characters
from lmgraft_web_rules.plugin import (
    C4Config,
    FinewebConfig,
    GopherQualityConfig,
    GopherRepetitionConfig,
    WordSplitter,
    lmgraft_filter,
)
from lmgraft_web_rules.vocabulary import Vocabulary

FOUR: list[Callable[[], Any]] = [
    lambda: GopherQuality(GopherQualityConfig(min_words=3)),
    lambda: GopherRepetition(GopherRepetitionConfig()),
    lambda: C4(C4Config(min_sentences=2)),
    lambda: Fineweb(FinewebConfig()),
]
#: Few letters, so that everything comes again; marks at which splitters part.
ODD = st.text(st.sampled_from("ab .\n,'\"-…A1[]{#•()\u00a0\U0001f44d"), max_size=80)


@pytest.mark.parametrize(
    ("piece", "words"),
    [
        ("word", ["word"]),
        ("word.", ["word", "."]),
        ("(word),", ["(", "word", ")", ","]),
        ("don't", ["do", "n't"]),
        ("Cannot", ["Can", "not"]),
        ("it's", ["it", "'s"]),
        ("we'd've", ["we", "'d", "'ve"]),
        ("Mr.", ["Mr."]),
        ("U.S.", ["U.S."]),
        ("USA.", ["USA", "."]),
        ("J.", ["J."]),
        ("well-known", ["well", "-", "known"]),
        ("1990-1995", ["1990", "-", "1995"]),
        ("and/or", ["and", "/", "or"]),
        ("end.Start", ["end", ".", "Start"]),
        ("wait...what", ["wait", "...", "what"]),
        ("wait...", ["wait", "..."]),
        ("$5,000.50", ["$", "5,000.50"]),
        ("50%", ["50", "%"]),
        ("10km", ["10", "km"]),
        ("5pm", ["5", "pm"]),
        ("http://a.org/b?c=d.", ["http://a.org/b?c=d", "."]),
        ("me@example.com", ["me@example.com"]),
        ("'tis", ["'", "tis"]),
        ("#tag", ["#", "tag"]),
        ("—", ["—"]),
    ],
)
def test_fast(piece: str, words: list[str]) -> None:
    assert split_fast.splitter()(piece) == words


@given(st.one_of(st.text(max_size=40), ODD))
def test_no_character_is_lost(text: str) -> None:
    for piece in text.split():
        words = split_fast.splitter()(piece)
        assert all(words)
        assert "".join(words) == piece


def test_splitting_takes_time_in_proportion() -> None:
    for part in ("'m", "a-", "!", "...", "a@", "a.", "[", "n't"):
        assert "".join(split_fast.splitter()(part * 20_000)) == part * 20_000


@pytest.fixture(scope="module")
def english() -> Any:
    spacy = pytest.importorskip("spacy")
    language = spacy.blank("en")
    language.add_pipe("sentencizer")
    return language


@settings(deadline=None, max_examples=200)
@given(text=st.one_of(ODD, st.sampled_from(NASTY), st.sampled_from(texts(40)), st.text(max_size=60)))
def test_spacy_cuts_a_piece_as_it_cuts_the_whole_text(english: Any, text: str) -> None:
    own = vocabulary.vocabulary(WordSplitter.spacy)
    expected = [token.text for token in english(text) if token.text.strip()]
    assert own.listed(own.words([text]).ids.tolist()) == expected


@settings(deadline=None, max_examples=200)
@given(text=st.one_of(ODD, st.sampled_from(NASTY), st.sampled_from(texts(40))))
def test_sentences_are_spacys(english: Any, text: str) -> None:
    own = vocabulary.vocabulary(WordSplitter.spacy)
    for line in filter(None, map(str.strip, text.splitlines())):
        assert own.sentences(line) == len(list(english(line).sents))


def test_spacy_missing_is_said_in_three_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(UserError, match=r"pip install 'lmgraft\[spacy\]'"):
        split_spacy.splitter()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for component in lmgraft_filter():
        (problem,) = component.config(words=WordSplitter.spacy).check()  # type: ignore[call-arg]
        assert "lmgraft[spacy]" in problem.remedy


@given(st.lists(ODD, max_size=6))
def test_words_of_texts_are_the_words_of_their_pieces(shown: list[str]) -> None:
    own = vocabulary.vocabulary(WordSplitter.fast)
    words = own.words(shown)
    split = split_fast.splitter()
    for text, (start, end) in zip(shown, pairwise([0, *words.ends.tolist()]), strict=True):
        expected = [word for piece in text.split() for word in split(piece)]
        assert own.listed(words.ids[start:end].tolist()) == expected
        assert own.lengths[words.ids[start:end]].tolist() == list(map(len, expected))


@settings(max_examples=200)
@given(st.lists(st.text("ab ", max_size=60), min_size=1, max_size=5), st.integers(2, 6))
def test_n_grams_seen_at_once_are_those_counted_one_by_one(shown: list[str], n: int) -> None:
    own = Vocabulary(split_fast.splitter())
    words = own.words(shown)
    grams = Grams(own, words)
    top, dups = grams.top(n).tolist(), grams.dups(n).tolist()
    for text, most, repeats in zip(shown, top, dups, strict=True):
        assert most == top_characters(text.split(), n)
        exact = dup_characters(text.split(), n)
        assert repeats >= exact
        assert (repeats == 0) == (exact == 0)


@given(st.lists(st.text("ab", max_size=3)))
def test_repeated(parts: list[str]) -> None:
    again = [part for place, part in enumerate(parts) if part in parts[:place]]
    assert repeated(parts) == (len(again), sum(map(len, again)))


@settings(deadline=None)
@given(st.lists(ODD, max_size=8), st.sampled_from(FOUR))
def test_a_verdict_does_not_depend_on_the_batch(shown: list[str], make: Callable[[], Any]) -> None:
    batch = [Document(id=str(number), text=text) for number, text in enumerate(shown)]
    part = make()
    together = part.judge(batch)
    assert together == [make().judge([document])[0] for document in batch]
    assert together[::-1] == part.judge(batch[::-1])


@pytest.mark.parametrize("make", FOUR)
def test_a_table_begun_anew_changes_nothing(make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    batch = [Document(id=str(number), text=text * 3) for number, text in enumerate(texts(60))]
    expected = make().judge(batch)
    monkeypatch.setattr(vocabulary, "MOST_PIECES", 20)
    monkeypatch.setattr(vocabulary, "MOST_CHARACTERS", 200)
    part = make()
    assert [verdict for document in batch for verdict in part.judge([document])] == expected
    assert len(vocabulary.vocabulary(WordSplitter.fast).strings) < 200
