"""The rule of words: what it finds, what it is not taken in by, and lists of one's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from lmgraft.errors import UserError
from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import KEEP, Verdict
from lmgraft_classifiers.english import WORDS
from lmgraft_classifiers.plugin import ToxicityConfig
from lmgraft_classifiers.toxicity import Toxicity
from lmgraft_classifiers.words import WordList, listed

DATA = os.environ.get("LMGRAFT_TEST_DATA")
LIST = WordList(["blorg*", "grumpf", "you zonk", "zilt"])


@pytest.mark.parametrize(
    ("text", "hits"),
    [
        ("a Blorg, two BLORGS and blorging", 3),
        ("grumpf! (grumpf's) grumpf’s", 3),
        ("Oh you  Zonk, you zonks", 1),
        ("g r u m p f and g.r.u.m.p.f", 2),
        ("gruuuumpf bloooorg", 2),
        ("gr*mpf bl**g g****f **grumpf** g*****", 4),  # two letters have to be seen
        ("z1lt z!lt zi|t grumpf!!!", 4),
        ("zzzilt 2 i l t", 1),
    ],
)
def test_words_are_found(text: str, hits: int) -> None:
    assert LIST.found(text)[0] == hits


@pytest.mark.parametrize(
    "text",
    ["ablorg grumpfy zonk zilts", "mp3 2nd A55 c++ **bold** !!! 1111111!", "U.S.S.R. e.g. a b c d", "x = 5*y + z1", ""],
)
def test_other_words_are_none(text: str) -> None:
    assert LIST.found(text)[0] == 0


def test_disguises_can_be_left_alone() -> None:
    assert WordList(["zilt"], disguised=False).found("z1lt z i l t ziiilt zilt") == (1, 7)


def test_words_beside_a_text_are_counted() -> None:
    assert LIST.found("one two, don’t 3 grumpf") == (1, 5)


def judged(text: str, **settings: Any) -> Verdict:
    return Toxicity(ToxicityConfig(**settings)).judge([Document("a", text=text)])[0]


def test_number_and_share_decide() -> None:
    dropped = Verdict(keep=False, reason="toxic_words", counts={"hits": 1})
    assert judged("what the fuck") == dropped
    assert judged("shit " + "word " * 99) == dropped
    assert judged("shit " + "word " * 100) == Verdict(counts={"hits": 1})
    assert judged("shit " + "word " * 500, min_share=0.0) == dropped
    assert judged("oh shit", min_hits=2).keep
    assert judged("Scunthorpe is in Lincolnshire. Assess the class; a cocktail and shiitake.") is KEEP


def test_all_that_is_said_in_a_chat_counts() -> None:
    chat = Document("c", messages=[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "oh shit"}])
    pair = Document("p", prompt="hi", chosen="hello", rejected="fuck off")
    assert [verdict.keep for verdict in Toxicity(ToxicityConfig()).judge([chat, pair])] == [False, False]


def test_lists_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("# mine\nblorg\n\nyou zonk\n", encoding="utf-8")
    (tmp_path / "words.csv").write_text("word,how\nblorg,1.5\nzilt,2.5\n", encoding="utf-8")
    own = {"words": str(tmp_path / "words.txt")}
    assert [judged(text, **own).keep for text in ("a blorg", "you zonk", "shit")] == [False, False, True]
    table = {"words": str(tmp_path / "words.csv"), "column": "word", "severity": "how", "min_severity": 2.0}
    assert [judged(text, **table).keep for text in ("a blorg", "a zilt")] == [True, False]


def test_the_list_is_kept_with_the_stage(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("blorg\n", encoding="utf-8")
    (tmp_path / "fit").mkdir()
    config = ToxicityConfig(words=str(tmp_path / "words.txt"))
    assert Toxicity(config).inputs() == {"words": str(tmp_path / "words.txt")}
    Toxicity(config).fit({}, tmp_path / "fit")
    (tmp_path / "words.txt").unlink()
    part = Toxicity(config)
    part.fit({}, tmp_path / "fit")
    assert not part.judge([Document("a", text="a blorg")])[0].keep


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("words.txt", "", "holds no words"),
        ("words.txt", None, "No such file"),
        ("words.txt", b"\xff\xfe\xfa", "cannot be read"),
        ("words.csv", "word\nblorg\n", "no column 'text'"),
        ("words.csv", "text,severity_rating\nblorg,bad\n", "line 2: severity_rating is 'bad'"),
    ],
)
def test_bad_lists_stop_in_three_lines(tmp_path: Path, name: str, content: str | bytes | None, told: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=told) as caught:
        judged("text", words=str(tmp_path / name))
    assert len(str(caught.value).splitlines()) == 3


def test_the_built_in_list_is_found_and_has_no_word_twice() -> None:
    assert len(WORDS) == len(set(WORDS))
    built_in = WordList(WORDS)
    assert all(built_in.found(word.rstrip("*"))[0] for word in WORDS)


@pytest.mark.skipif(not DATA, reason="LMGRAFT_TEST_DATA is not set")
def test_a_real_list() -> None:
    words = listed(Path(DATA or "") / "misc" / "profanity_en.csv", "text", "severity_rating", 0)
    assert len(words) > 1500
    assert len(listed(Path(DATA or "") / "misc" / "profanity_en.csv", "text", "severity_rating", 2)) < len(words) - 500
