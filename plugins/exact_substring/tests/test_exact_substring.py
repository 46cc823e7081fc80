"""The spans that are cut are those that a suffix array finds, no more and no fewer."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lmgraft
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmgraft.artifacts import corpus
from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import CorpusFilter, Verdict
from lmgraft.spool import Spool
from lmgraft.stages import _corpus_units
from lmgraft.stages import corpus as corpus_stage
from lmgraft_exact_substring import exact_substring, repeats, winnowing
from lmgraft_exact_substring.exact_substring import ExactSubstring
from lmgraft_exact_substring.plugin import Action, ExactSubstringConfig, lmgraft_filter


def verdicts(texts: Sequence[str], size: int = 3, **config: Any) -> dict[int, Verdict]:
    part = ExactSubstring(ExactSubstringConfig(**config))
    documents = [Document(id=str(number), text=text) for number, text in enumerate(texts)]
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "work").mkdir()
        spool = Spool(folder / "spool", part.schema(), memory_mb=16)
        for start in range(0, len(documents), size):
            chunk = documents[start : start + size]
            spool.append(part.sketch(chunk, range(start, start + len(chunk))))
        found = list(part.resolve(spool.sort(part.order()), folder / "work", 16))
    assert len(dict(found)) == len(found)
    return dict(found)


def by_suffix_array(texts: Sequence[str], least: int) -> dict[int, set[int]]:
    """Document -> the characters that are cut, from a sorted list of all suffixes of all documents."""
    encoded = [text.encode() for text in texts]
    suffixes = sorted(
        (text[at : at + least], number, at) for number, text in enumerate(encoded) for at in range(len(text))
    )
    cut = [np.zeros(len(text), np.bool_) for text in encoded]
    group: tuple[bytes, int, int] = (b"", -1, -1)
    for span, number, at in suffixes:
        if len(span) < least:
            continue
        if span != group[0]:
            group = span, number, at  # equal spans are sorted by place: this is the first
        elif number != group[1] or at - group[2] >= least:
            cut[number][at : at + least] = True
    found: dict[int, set[int]] = {}
    for number, text in enumerate(texts):
        if cut[number].any():
            ends = np.cumsum([0, *(len(char.encode()) for char in text)])
            whole = [at for at in range(len(text)) if cut[number][ends[at] : ends[at + 1]].all()]
            found[number] = set(whole)
    return found


def characters(verdict: Verdict) -> set[int]:
    return {at for start, stop in verdict.cuts for at in range(start, stop)}


@st.composite
def corpora(draw: st.DrawFn) -> tuple[int, list[str]]:
    alphabet = draw(st.sampled_from(["a", "ab", "abcdefgh", "aé日𠀀", "the cat sat on. "]))
    chunks = draw(st.lists(st.text(alphabet, min_size=8, max_size=60), min_size=1, max_size=4))
    pieces = st.lists(st.one_of(st.sampled_from(chunks), st.text(alphabet, max_size=20)), max_size=7)
    return draw(st.sampled_from([16, 17, 23, 40])), ["".join(some) for some in draw(st.lists(pieces, max_size=7))]


@pytest.mark.parametrize("small", [False, True])
@given(corpora())
@settings(max_examples=150, deadline=None)
def test_the_spans_are_those_of_a_suffix_array(small: bool, made: tuple[int, list[str]]) -> None:
    least, texts = made
    with pytest.MonkeyPatch.context() as patch:
        if small:  # texts in pieces, spans in rounds
            patch.setattr(winnowing, "PIECE", 1)
            patch.setattr(exact_substring, "BLOCK", 7)
            patch.setattr(repeats, "SPAN_BYTES", 16 << 20)
            patch.setattr(repeats, "LEAST_SPANS", 64)
        found = verdicts(texts, min_bytes=least, min_keep=0)
    assert {number: characters(verdict) for number, verdict in found.items()} == by_suffix_array(texts, least)


def test_a_planted_span_goes_from_later_documents_only() -> None:
    chance = random.Random(1)
    texts = ["".join(chance.choices("abcdefghij ", k=500)) for _ in range(200)]
    span = "".join(chance.choices("klmnopqrst ", k=150))
    for number in (20, 70, 130, 199):
        texts[number] = texts[number][:100] + span + texts[number][100:]
    found = verdicts(texts, size=16)
    assert set(found) == {70, 130, 199}
    for verdict in found.values():
        (cut,) = verdict.cuts
        assert 95 <= cut[0] <= 100  # a neighbour may be equal by chance
        assert 250 <= cut[1] <= 255
        assert verdict.counts == {"spans": 1, "cut_bytes": cut[1] - cut[0]}
        assert verdict.reason == "repeated"


def test_one_byte_less_than_the_least_stays() -> None:
    chance = random.Random(2)
    span = "".join(chance.choices("abcdefgh", k=100))
    for length, expected in ((99, set()), (100, {1})):
        assert set(verdicts([f"1{span[:length]}2 {'x' * 30}", f"3{span[:length]}4 {'y' * 30}"])) == expected


def test_little_that_is_left_is_dropped() -> None:
    text = "".join(random.Random(3).choices("abcdefgh", k=300))
    texts = [text, text + "z" * 19, text + "y" * 20, text]
    found = verdicts(texts)
    assert {number: one.keep for number, one in found.items()} == {1: False, 2: True, 3: False}
    assert found[3] == Verdict.drop("repeated")
    assert {n: one.keep for n, one in verdicts(texts, action=Action.drop).items()} == {1: False, 2: False, 3: False}


def test_characters_are_never_torn() -> None:
    # The second text shares the last two bytes of its first character with the first one's.
    shared = "日本語の文章" * 3
    texts = ["㐥" + shared + "x" * 9, chr(ord("㐥") + (1 << 12)) + shared + "y" * 9]
    assert texts[0].encode()[1:3] == texts[1].encode()[1:3]
    (cut,) = verdicts(texts, min_bytes=20, min_keep=0)[1].cuts
    assert texts[1][slice(*cut)] == shared


def test_empty_short_and_strange_documents() -> None:
    assert verdicts([]) == {}
    assert verdicts(["", " ", "", "a" * 99, "a" * 99, " " * 50]) == {}
    part = ExactSubstring(ExactSubstringConfig())
    chats = [Document(id=str(n), messages=[{"role": "user", "content": "a" * 500}]) for n in range(2)]
    assert part.sketch(chats, [0, 1]).num_rows == 0
    blank = verdicts([" " * 500, "\n" * 300, " " * 400])
    assert set(blank) == {0, 1, 2}
    assert blank[0].cuts == ((100, 500),)
    assert blank[1].cuts == ((100, 300),)
    assert not blank[2].keep


def test_a_giant_document_beside_small_ones() -> None:
    chance = random.Random(4)
    giant = "".join(chance.choices("abcdefghijklmnop", k=3_000_000))
    texts = ["x" * 200, giant, giant[1_500_000:1_500_400], "y" * 50 + giant[65_400:65_700] + "z" * 50]
    found = verdicts(texts)
    assert set(found) == {0, 2, 3}
    assert not found[2].keep
    assert found[3].cuts == ((50, 350),)


def test_as_many_equal_documents_as_you_like() -> None:
    text = "".join(random.Random(5).choices("abcdefgh ", k=200))
    found = verdicts([text] * 30_000, size=512)
    assert set(found) == set(range(1, 30_000))
    assert {verdict.keep for verdict in found.values()} == {False}


def test_a_phrase_in_many_surroundings_is_no_pair_of_each_with_each() -> None:
    chance = random.Random(6)
    phrase = "".join(chance.choices("abcdefgh ", k=60))  # shorter than min_bytes: a fingerprint, never a repeat
    texts = [
        "".join(chance.choices("klmnopqr ", k=80)) + phrase + "".join(chance.choices("stuvwxyz ", k=80))
        for _ in range(4000)
    ]
    assert verdicts(texts, size=512) == {}


def test_workers_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_stage, "SMALL_BYTES", 0)
    monkeypatch.setattr(_corpus_units, "TASK_BYTES", 20_000)
    chance = random.Random(7)
    chunks = ["".join(chance.choices("abcdé ", k=150)) for _ in range(5)]
    texts = ["".join(chance.choices("abcdé ", k=200)) + chance.choice(["", *chunks]) + "end" for _ in range(300)]
    found = [of_stage(tmp_path / str(workers), texts, workers) for workers in (1, 2)]
    assert found[0] == found[1]
    kept, row = found[0]
    assert row["rewritten"] + row["kept"] > 300 > row["rewritten"] > 100
    assert row["counts"]["spans"] == row["rewritten"]
    assert sum(map(len, kept)) < sum(map(len, texts)) - 100 * 140


def of_stage(folder: Path, texts: Sequence[str], workers: int) -> tuple[list[str], dict[str, Any]]:
    """(texts that are left, the funnel's row) of a corpus stage."""
    rows = folder / "rows"
    rows.mkdir(parents=True)
    for number in range(4):
        lines = [json.dumps({"text": text}) + "\n" for text in texts[number::4]]
        (rows / f"{number}.jsonl").write_text("".join(lines))
    recipe = {
        "defaults": [
            "base", {"stage@corpus": "corpus"}, {"data_source@corpus.sources": ["files"]},
            {"filter@corpus.filters": ["exact_substring"]}, "_self_",
        ],
        "stages": ["corpus"],
        "corpus": {"sources": {"files": {"path": str(rows)}}},
    }  # fmt: skip
    (folder / "dedup.yaml").write_text(json.dumps(recipe))
    places = [f"run.dir={folder}/run", f"store.dir={folder}/store"]
    run = lmgraft.run(str(folder / "dedup.yaml"), [f"corpus.workers={workers}", *places])
    path = run.artifacts["corpus"]
    return [str(document.text) for document in corpus.documents(path)], corpus.funnel(path)["filters"][0]


@pytest.mark.parametrize("wrong", [{"min_bytes": 15}, {"min_bytes": 100_001}, {"min_keep": -1}])
def test_wrong_settings_are_told(wrong: dict[str, Any]) -> None:
    assert len(list(ExactSubstringConfig(**wrong).check())) == 1


def test_the_hook_offers_a_corpus_filter() -> None:
    (component,) = lmgraft_filter()
    assert component.name == "exact_substring"
    assert isinstance(ExactSubstring(ExactSubstringConfig()), CorpusFilter)
    assert list(ExactSubstringConfig().check()) == []
