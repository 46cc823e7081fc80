"""Documents of the languages that are kept stay, with any model; the funnel hears of all languages."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from lmgraft.errors import Fault, UserError
from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import FittedFilter, RowFilter, Verdict
from lmgraft_language import bayes
from lmgraft_language.codes import normal
from lmgraft_language.language import language
from lmgraft_language.plugin import LanguageConfig, Model

SAID = {
    "en": "All human beings are born free and equal in dignity and rights. They have reason and conscience.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison.",
    "ru": "Все люди рождаются свободными и равными в своём достоинстве и правах. Они наделены разумом и совестью.",
    "tr": "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana sahiptirler.",
    "zh": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "ja": "すべての人間は、生れながらにして自由であり、かつ、尊厳と権利とについて平等である。",
}
HANT = "人人生而自由，在尊嚴和權利上一律平等。他們賦有理性和良心，並應以兄弟關係的精神互相對待。"


def judged(texts: Sequence[str], **settings: Any) -> list[Verdict]:
    documents = [Document(str(number), text=text) for number, text in enumerate(texts)]
    return language(LanguageConfig(**settings)).judge(documents)


def test_languages_are_counted_whatever_becomes_of_the_document() -> None:
    for settings in ({}, {"keep": ["en", "zh"]}):
        assert [dict(verdict.counts) for verdict in judged(list(SAID.values()), **settings)] == [
            {code: 1} for code in SAID
        ]


def test_nothing_is_dropped_where_nothing_is_to_be_kept() -> None:
    assert all(verdict.keep for verdict in judged([*SAID.values(), "ok", "", "12 34 :: == ++ 77 99 00 11"]))


def test_other_languages_are_dropped() -> None:
    verdicts = judged(list(SAID.values()), keep=["en", "zh_Hans"])
    assert [verdict.reason for verdict in verdicts] == ["" if c in ("en", "zh") else "other_language" for c in SAID]
    assert [verdict.keep for verdict in verdicts] == [c in ("en", "zh") for c in SAID]


def test_both_scripts_of_chinese_are_chinese() -> None:
    assert [verdict.keep for verdict in judged([HANT, SAID["zh"]], keep=["zh-hant"])] == [True, True]


def test_what_is_uncertain() -> None:
    half = SAID["en"][:50] + SAID["de"][:50]
    assert judged([half], keep=["en", "de"], min_score=0.999)[0].reason == "uncertain"
    assert judged([SAID["en"]], keep=["en"], min_score=0.99)[0].keep
    short = judged(["hello", "", "1234 :: 5678 == 9 % 9 ++ 77"], keep=["en"])
    assert [(verdict.reason, dict(verdict.counts)) for verdict in short] == [("uncertain", {"und": 1})] * 3
    assert judged([SAID["en"]], keep=["en"], min_chars=len(SAID["en"]) + 1)[0].reason == "uncertain"
    assert judged([SAID["en"]], keep=["en"], min_chars=len(SAID["en"]))[0].keep


def test_chats_and_pairs_are_identified_by_all_their_texts() -> None:
    chat = [{"role": "user", "content": SAID["fr"]}, {"role": "assistant", "content": None}]
    shown = [Document("c", messages=chat), Document("p", prompt="?", chosen=SAID["de"], rejected=SAID["de"])]
    verdicts = language(LanguageConfig(keep=["fr"])).judge(shown)
    assert [(verdict.reason, dict(verdict.counts)) for verdict in verdicts] == [
        ("", {"fr": 1}),
        ("other_language", {"de": 1}),
    ]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("en", "en"), ("EN", "en"), ("eng", "en"), ("eng_Latn", "en"), ("zh-Hant", "zh"), ("cmn_Hani", "zh"),
        ("zho", "zh"), ("yue", "zh"), ("pes_2", "fa"), ("ceb", "ceb"), ("nob", "no"), ("nn", "nn"), ("srp_Cyrl", "sr"),
        ("", "und"), ("007", "und"), ("english", "und"),
    ],
)  # fmt: skip
def test_codes(code: str, expected: str) -> None:
    assert normal(code) == expected


def test_blocks_and_stretches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [*SAID.values(), HANT, "", "a", *(text * 9 for text in SAID.values())]
    model = bayes.Bayes()
    expected = model.identify(texts)
    assert [model.identify([text])[0] for text in texts] == expected
    for block, stretch in ((1, 7), (500, 64), (1 << 20, bayes.WARM)):
        monkeypatch.setattr(bayes, "BLOCK", block)
        monkeypatch.setattr(bayes, "STRETCH", stretch)
        assert model.identify(texts) == expected


@pytest.mark.parametrize(
    "text", ["\x00" * 400_000, "\ud800" * 30, "\ufdfa" * 100_000, "a\u0301" * 200_000, "é" * 1_000_000]
)
def test_strange_texts_take_no_time(text: str) -> None:
    judged(["warm up the model, please"])
    began = time.process_time()
    (verdict,) = judged([text], keep=["en"])
    assert not verdict.keep
    assert time.process_time() - began < 2


# --- fastText ---------------------------------------------------------------------------------------------------------


def write_fasttext(path: Path, words: dict[str, Sequence[float]], labels: Sequence[str]) -> None:
    """A model in fastText's own format (version 12): softmax over the mean of the words' vectors."""
    size = len(labels)
    entries = [(word, 0) for word in words] + [(f"__label__{label}", 1) for label in labels]
    raw = struct.pack("<ii", 793712314, 12)
    raw += struct.pack("<12id", size, 5, 1, 1, 5, 1, 3, 3, 0, 0, 0, 100, 1e-4)
    raw += struct.pack("<iiiqq", len(entries), len(words), size, 100, -1)
    raw += b"".join(name.encode() + b"\0" + struct.pack("<qb", 5, kind) for name, kind in entries)
    rows = list(words.values())
    raw += b"\0" + struct.pack("<qq", len(rows), size) + b"".join(struct.pack(f"<{size}f", *row) for row in rows)
    unit = [[float(row == column) for column in range(size)] for row in range(size)]
    raw += b"\0" + struct.pack("<qq", size, size) + b"".join(struct.pack(f"<{size}f", *row) for row in unit)
    path.write_bytes(raw)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    pytest.importorskip("fasttext")
    write_fasttext(tmp_path / "tiny.bin", {"hello": (6, 0), "hallo": (0, 6), "radio": (1, 1)}, ["eng_Latn", "deu_Latn"])
    return tmp_path / "tiny.bin"


def test_a_fasttext_model_of_ones_own(model: Path, tmp_path: Path) -> None:
    part = language(LanguageConfig(keep=["de"], model=Model.fasttext, path=str(model), min_chars=1))
    assert isinstance(part, FittedFilter)
    assert isinstance(part, RowFilter)
    assert part.inputs() == {"model": str(model)}, "so that its content is part of the key"
    with pytest.raises(Fault, match="before its model was loaded"):
        part.judge([Document("a", text="hallo")])
    part.fit({"model": iter(())}, tmp_path)
    texts = ["hallo\nhallo", "hello\0hello", "radio", "nothing known", "hal\ud800lo"]
    verdicts = part.judge([Document(str(number), text=text) for number, text in enumerate(texts)])
    reasons = [(verdict.reason, *verdict.counts) for verdict in verdicts]
    assert reasons[:2] == [("", "de"), ("other_language", "en")]
    assert [reason for reason, _ in reasons[2:]] == ["uncertain"] * 3
    assert reasons[3] == ("uncertain", "und")


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x80\x04\x95pickle"])
def test_no_fasttext_model(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("fasttext")
    (tmp_path / "m.bin").write_bytes(content)
    part: Any = language(LanguageConfig(model=Model.fasttext, path=str(tmp_path / "m.bin")))
    with pytest.raises(UserError, match="is no fastText model"):
        part.fit({}, tmp_path)


def test_a_language_that_the_model_does_not_know_is_refused() -> None:
    assert judged([SAID["en"]], keep=["und", "deu_Latn"])[0].reason == "other_language"
    with pytest.raises(UserError, match="keep has xx"):
        judged([SAID["en"]], keep=["en", "xx"])


def test_the_bundled_model_learns_from_nothing() -> None:
    part = language(LanguageConfig())
    assert isinstance(part, RowFilter)
    assert not isinstance(part, FittedFilter)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"min_score": 1.5}, ["min_score is 1.5"]),
        ({"min_chars": -1, "keep": ["english", "e"]}, ["min_chars is -1", "keep has 'english'", "keep has 'e'"]),
        ({"model": Model.fasttext}, ["path is null"]),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], said: list[str]) -> None:
    pytest.importorskip("fasttext")
    problems = [str(problem) for problem in LanguageConfig(**settings).check()]
    assert len(problems) == len(said)
    for problem, words in zip(problems, said, strict=True):
        assert words in problem


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (problem,) = LanguageConfig(model=Model.fasttext, path="m.bin").check()
    assert "pip install fasttext-predict" in str(problem)
