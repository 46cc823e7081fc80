"""Overlaps with evaluation sets are found, all of them and nothing else, and dropped or cut."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from lmgraft.errors import Fault, UserError
from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import KEEP, CorpusFilter, FittedFilter, RowFilter, Verdict
from lmgraft.spool import Spool
from lmgraft_decontaminate.decontaminate import decontaminate
from lmgraft_decontaminate.plugin import Action, DecontaminateConfig

WORDS = [
    "amber", "birch", "cedar", "delta", "ember", "frost", "grove", "heron", "inlet", "juniper", "kelp", "lichen",
    "maple", "nectar", "otter", "pine",
]  # fmt: skip
ROW = "the otter swam past the birch grove while frost lay on the cedar and heron slept"


def fitted(folder: Path, sets: Mapping[str, Sequence[Mapping[str, Any]]], **settings: Any) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    config = DecontaminateConfig(sets={name: f"{name}.jsonl" for name in sets}, **settings)
    part = decontaminate(config)
    part.fit({name: iter(sets[name]) for name in part.inputs()}, folder)
    return part


def judged(part: Any, *texts: str) -> list[Verdict]:
    return part.judge([Document(str(number), text=text) for number, text in enumerate(texts)])


def kept(part: Any, *texts: str) -> list[bool]:
    return [verdict is KEEP for verdict in judged(part, *texts)]


def test_thirteen_words_in_a_row_and_no_fewer(tmp_path: Path) -> None:
    part = fitted(tmp_path, {"birds": [{"text": ROW}]})
    words = ROW.split()
    assert len(words) == 16
    for start in range(4):
        assert kept(part, f"x {' '.join(words[start : start + 13])} y") == [False]
    for start in range(5):
        assert kept(part, f"x {' '.join(words[start : start + 12])} y") == [True]
    broken = [*words[:8], "never", *words[8:]]
    assert kept(part, " ".join(broken)) == [True]
    assert kept(part, " ".join(reversed(words)), "", " ", "\n\n") == [True] * 4


def test_case_punctuation_and_white_space_are_passed_over(tmp_path: Path) -> None:
    part = fitted(tmp_path, {"birds": [{"text": ROW}]})
    shown = [
        ROW.upper(),
        ROW.replace(" ", "\n\t "),
        "Then: " + ", ".join(ROW.split()) + ".",
        " - ".join(ROW.split()),
        ROW.replace("birch", "“bir-ch’”"),
        ROW.replace("otter", "ot\u00adter"),
    ]
    assert kept(part, *shown) == [False] * len(shown)
    assert kept(part, ROW.replace("birch", "birches"), ROW.replace(" birch", "birch")) == [True, True]


def test_words_do_not_join_across_texts_or_documents(tmp_path: Path) -> None:
    half = " ".join(ROW.split()[:8]), " ".join(ROW.split()[8:])
    part = fitted(tmp_path / "a", {"birds": [{"text": ROW}]})
    assert kept(part, *half) == [True, True]
    apart = fitted(tmp_path / "b", {"birds": [{"question": half[0], "answer": half[1]}]}, min_words=13 - 5)
    assert kept(apart, " ".join(reversed(half)).replace("frost", "snow")) == [False]
    assert kept(fitted(tmp_path / "c", {"birds": [{"q": half, "long": WORDS * 2}, {"q": ROW + " so"}]}), half[0]) == [
        False
    ]


def test_short_texts_are_matched_whole_and_shorter_ones_counted(tmp_path: Path) -> None:
    rows = [{"q": " ".join(WORDS[:8])}, {"q": " ".join(WORDS[4:16])}, {"q": "too short"}, {"n": 3}]
    part = fitted(tmp_path, {"quiz": rows})
    assert kept(part, "a " + " ".join(WORDS[:8]) + " b", " ".join(WORDS[:7]), " ".join(WORDS[5:16])) == [
        False,
        True,
        True,
    ]
    told = json.loads((tmp_path / "sets.json").read_text())["sets"]
    assert told == {"quiz": {"rows": 4, "rows_ignored": 2, "texts": 3, "texts_whole": 2, "texts_ignored": 1}}


def test_nested_columns_and_those_that_are_named(tmp_path: Path) -> None:
    other = " ".join(WORDS)
    rows = [{"turns": [{"content": ROW}], "meta": {"choices": [other]}}]
    assert kept(fitted(tmp_path / "a", {"chat": rows}), ROW, other) == [False, False]
    part = fitted(tmp_path / "b", {"chat": rows}, columns={"chat": ["turns"]})
    assert kept(part, ROW, other) == [False, True]


def test_chinese_characters_are_words(tmp_path: Path) -> None:
    part = fitted(tmp_path, {"zh": [{"q": "肉牛屠宰后，胴体的哪个部位肉质较好"}]})
    assert kept(part, "问：肉牛屠宰后胴体的哪个部位肉质较好？", "肉牛屠宰后胴体的哪个好") == [False, True]


def test_counts_name_every_set_once_and_notes_quote(tmp_path: Path) -> None:
    sets = {"birds": [{"text": ROW}], "trees": [{"text": ROW}], "none": [{"text": " ".join(WORDS)}]}
    (verdict,) = judged(fitted(tmp_path, sets), f"Look: {ROW} {ROW}")
    assert (verdict.keep, verdict.reason, verdict.counts) == (False, "contaminated", {"birds": 1, "trees": 1})
    assert verdict.note == "birds: " + " ".join(ROW.split()[:13])


def reference(texts: Sequence[str], rows: Sequence[str], n: int) -> list[bool]:
    """Which texts stay, by sets of tuples."""

    def split(text: str) -> list[str]:
        return "".join(letter for letter in text.lower() if letter.isalnum() or letter.isspace()).split()

    def runs(words: list[str]) -> Iterator[tuple[str, ...]]:
        return zip(*(words[start:] for start in range(n)), strict=False)

    known = {run for row in rows for run in runs(split(row))}
    return [known.isdisjoint(runs(split(text))) for text in texts]


@pytest.mark.parametrize("n", [2, 3, 5])
def test_agrees_with_sets_of_tuples(tmp_path: Path, n: int) -> None:
    rng = random.Random(n)
    marks = (" ", "  ", ", ", "\n", "-", " - ")
    size = 3 * n + 3
    made = ["".join(rng.choice(WORDS[:4]) + rng.choice(marks) for _ in range(rng.randint(0, size))) for _ in range(600)]
    rows, texts = made[:20], made[20:]
    part = fitted(tmp_path, {"made": [{"t": row} for row in rows]}, ngram=n, min_words=n)
    expected = reference(texts, rows, n)
    assert 30 < sum(expected) < 570
    assert kept(part, *texts) == expected


def test_long_texts_are_worked_on_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = fitted(tmp_path, {"birds": [{"text": ROW}]}, action=Action.cut, window=0, min_piece=0)
    text = " ".join(WORDS[i % 7] for i in range(400)) + " " + ROW + " " + "x" * 300 + " " + ROW
    (whole,) = judged(part, text)
    assert whole.cuts
    for piece in (97, 250, 1000):
        monkeypatch.setattr("lmgraft_decontaminate.words.PIECE", piece)
        monkeypatch.setattr("lmgraft_decontaminate.decontaminate.SLICE", piece // 7)
        assert judged(part, "before", text)[1] == whole


def test_texts_without_white_space_are_cut_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = "肉牛屠宰后胴体的哪个部位肉质较好"
    part = fitted(tmp_path, {"zh": [{"q": row}]}, action=Action.cut, window=0, min_piece=0)
    text = "一二三四五六七八九十" * 5 + row + "百千万亿兆" * 9
    for piece in (1 << 17, 50, 51, 57, 7):
        monkeypatch.setattr("lmgraft_decontaminate.words.PIECE", piece)
        assert judged(part, text)[0].cuts == ((50, 66),)


def test_what_is_cut(tmp_path: Path) -> None:
    part = fitted(tmp_path, {"birds": [{"text": ROW}]}, action=Action.cut, window=10, min_piece=30, max_pieces=2)
    lead, tail = "word " * 20, " other" * 20
    (verdict,) = judged(part, lead + ROW + tail)
    ((start, stop),) = verdict.cuts
    assert verdict.keep
    assert verdict.reason == "contaminated"
    left = (lead + ROW + tail)[:start] + (lead + ROW + tail)[stop:]
    assert left == "word " * 18 + " other" * 18
    # Pieces that are too short go too; too many pieces, or nothing at all, and the document is dropped.
    assert judged(part, "word " * 4 + ROW + tail)[0].cuts == ((0, 20 + len(ROW) + 12),)
    assert [judged(part, text)[0].keep for text in (ROW, f"{lead}{ROW} {lead}{ROW}{tail}")] == [False, False]
    chat = Document("c", messages=[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": ROW}])
    assert part.judge([chat])[0].keep is False


def test_chats_and_pairs_are_looked_at_text_by_text(tmp_path: Path) -> None:
    part = fitted(tmp_path, {"birds": [{"text": ROW}]})
    parts = [{"type": "text", "text": ROW}]
    shown = [
        Document("a", messages=[{"role": "user", "content": parts}, {"role": "assistant", "content": None}]),
        Document("b", prompt="Why?", chosen="So.", rejected=ROW),
        Document("c", prompt=ROW[:40], chosen=ROW[40:], rejected="No."),
    ]
    assert [verdict.keep for verdict in part.judge(shown)] == [False, False, True]


def test_common_phrases_need_the_whole_corpus(tmp_path: Path) -> None:
    sets = {"birds": [{"text": ROW}, {"text": " ".join(WORDS)}]}
    part = fitted(tmp_path / "fit", sets, max_documents=3)
    assert isinstance(part, CorpusFilter)
    assert not isinstance(part, RowFilter)
    texts = [ROW, "clean", f"{ROW} {ROW}", ROW, " ".join(WORDS), f"{ROW} and {' '.join(WORDS)}"]
    documents = [Document(str(number), text=text) for number, text in enumerate(texts)]
    spool = Spool(tmp_path / "spool", part.schema(), 1)
    for start in range(0, 6, 2):
        spool.append(part.sketch(documents[start : start + 2], [start, start + 1]))
    (tmp_path / "work").mkdir()
    found = dict(part.resolve(spool.sort(part.order()), tmp_path / "work", 1))
    assert {number: verdict.keep for number, verdict in found.items()} == {4: False, 5: False}
    assert found[5].note.endswith(" ".join(WORDS[:13]))


def test_a_fit_is_loaded_and_not_made_again(tmp_path: Path) -> None:
    fitted(tmp_path, {"birds": [{"text": ROW}]})
    again = decontaminate(DecontaminateConfig(sets={"birds": "elsewhere.jsonl"}))
    assert isinstance(again, FittedFilter)

    def refused() -> Iterator[Mapping[str, Any]]:
        raise AssertionError("read again")
        yield {}

    again.fit({"birds": refused()}, tmp_path)
    assert kept(again, ROW, "clean") == [False, True]
    with pytest.raises(Fault, match="before it was fitted"):
        decontaminate(DecontaminateConfig(sets={"birds": "b.jsonl"})).judge([Document("a", text=ROW)])


@pytest.mark.parametrize(
    ("rows", "settings", "said"),
    [
        ([], {}, "has no rows"),
        ([{"q": "too short"}], {}, "no text of 8 words or more"),
        ([{"question": ROW}], {"columns": {"quiz": ["qestion"]}}, "'qestion'"),
    ],
)
def test_sets_that_cannot_be_looked_for(
    tmp_path: Path, rows: list[dict[str, str]], settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        fitted(tmp_path, {"quiz": rows}, **settings)


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"sets": {"a": "b"}}, 0),
        ({}, 1),
        ({"sets": {"GSM-8k": "b"}}, 1),
        ({"sets": {"a": "b"}, "columns": {"c": ["d"]}, "ngram": 1, "min_words": 0, "window": -1}, 4),
        ({"sets": {"a": "b"}, "max_documents": 0, "max_pieces": 0, "min_piece": -1}, 3),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], count: int) -> None:
    assert len(list(DecontaminateConfig(**settings).check())) == count


@pytest.mark.parametrize(
    "text", ["a" * 200_000, "," * 200_000, "\ud800 \U0010ffff \x00" * 1000, "\u0130\u1e9e " * 9999]
)
def test_strange_texts_are_kept(tmp_path: Path, text: str) -> None:
    assert kept(fitted(tmp_path, {"birds": [{"text": ROW}]}), text, f"{text} {ROW}") == [True, False]
