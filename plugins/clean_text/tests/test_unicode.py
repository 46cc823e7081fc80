"""What is repaired, taken out and written anew, and what stays."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import KEEP, Verdict
from lmgraft_clean_text.mojibake import CONFIG, repaired
from lmgraft_clean_text.plugin import Form, UnicodeConfig
from lmgraft_clean_text.unicode import Unicode

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
ENGLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
#: What ftfy knows mojibake of.
ENCODINGS = ("latin-1", "cp1252", "cp1251", "cp1250", "cp1253", "cp1254", "cp1257", "iso-8859-2", "mac-roman", "cp437")


def judged(text: str, **settings: Any) -> Verdict:
    return Unicode(UnicodeConfig(**settings)).judge([Document("a", text=text)])[0]


def clean(text: str, **settings: Any) -> str:
    verdict = judged(text, **settings)
    assert (verdict.text is None) == (verdict is KEEP)
    return text if verdict.text is None else verdict.text


@pytest.mark.parametrize(
    ("text", "wanted", "counts"),
    [
        ("sch\u00c3\u00b6n\nsch\u00f6n\n\u00e2\u20ac\u0153a\u00e2\u20ac\u009d", "schön\nschön\n“a”", {"mojibake": 2}),
        ("a\r\nb\rc\vd\fe\u2028f\u2029g", "a\nb\nc\nd\ne\nf\ng", {"line_ends": 6}),
        ("a\0b\x1b[0m\tc\x7f\ufffe\ufdd0", "ab[0m\tc", {"controls": 5}),
        ("\ufeffco\u00adop\u2060 a\u200bb", "coop ab", {"invisible": 4}),
        ("cafe\u0301 \u212b", "café Å", {"normalised": 1}),
    ],
)
def test_each_step_and_its_count(text: str, wanted: str, counts: dict[str, int]) -> None:
    verdict = judged(text)
    assert (verdict.text, verdict.counts, verdict.keep) == (wanted, counts, True)
    assert verdict.reason in counts


@pytest.mark.parametrize(
    "text", ["plain\n\ttext", "naïve – “ok” …", "我喜欢吃苹果，你呢？", FAMILY, ENGLAND, "❤️", "a\u200fb", ""]
)
def test_text_that_stays(text: str) -> None:
    assert judged(text) is KEEP


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("می\u200cخواهم", "می\u200cخواهم"),  # Persian spells with it
        ("می\u200c\u200cخواهم\u200c", "می\u200cخواهم"),
        ("क्\u200dष क्\u200cष", "क्\u200dष क्\u200cष"),
        ("x\u200cy\u200dz", "xyz"),
        (f"{FAMILY}\u200d!", f"{FAMILY}!"),
        ("ส\u200bวัส a\u200bb", "ส\u200bวัส ab"),
        (f"{ENGLAND} \U000e0041\U000e0042", f"{ENGLAND} "),
    ],
)
def test_joiners_stay_where_they_join(text: str, wanted: str) -> None:
    assert clean(text, form=Form.none) == wanted


def test_each_setting_switches_its_step() -> None:
    assert clean("Ã¶", fix=False) == "Ã¶"
    assert clean("a\r\nb\r", lines=False) == "a\r\nb"
    assert clean("a\r\nb\r\0", lines=False, controls=False) == "a\r\nb\r\0"
    assert clean("\ufeffa", invisible=False) == "\ufeffa"
    assert clean("a\u202eb\u202c", bidi=True) == "ab"
    assert clean("ﬁ Ａ", form=Form.NFKC) == "fi A"
    assert clean("ﬁ Ａ e\u0301", form=Form.none) == "ﬁ Ａ e\u0301"


def test_spaces_are_joined_when_told() -> None:
    text = "  a \u00a0\u2003 b\t\tc  \n   d\n\n\n\ne \n"
    assert clean(text) == text
    assert clean(text, spaces=True) == "a b c\nd\n\ne"
    assert clean("a\tb", spaces=True) == "a b"


def test_nothing_else_of_ftfy_is_done() -> None:
    text = "&lt;b&gt; “quoted” ﬂ Ｗ \x1b[31m"
    assert clean(text, controls=False) == text


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40), st.sampled_from(ENCODINGS), st.booleans())
@example("\U00020002", "cp1252", True)  # a space where its second byte stood
def test_mojibake_is_repaired_as_ftfy_does(text: str, encoding: str, spaced: bool) -> None:
    from ftfy import fix_encoding

    line = text.encode("utf-8", "replace").decode(encoding, "replace")
    line = line.replace("\xa0", " ") if spaced else line
    for given_line in (line.replace("\n", " "), f"Plain. {line}".replace("\n", " ")):
        assert repaired(given_line)[0] == fix_encoding(given_line, CONFIG)


@settings(max_examples=150, deadline=None)
@given(
    st.text(
        alphabet="ab é\u0301\u200c\u200d\u200bم\0\r\n\ufeff\u00ad\u202e\t\u3000\U0001f44d\U0001f3f4\U000e0067\U000e007f"
    )
)
@example("\U000e007f\u200d\U0001f3f4")  # a joiner behind a tag that goes
def test_clean_text_is_clean(text: str) -> None:
    for options in ({}, {"spaces": True, "bidi": True, "form": Form.NFKC}):
        once = clean(text, **options)
        assert clean(once, **options) == once
        assert unicodedata.is_normalized("NFC", once)
        assert not set(once) & set("\0\r\ufeff\u00ad")


def test_chats_are_let_be() -> None:
    chat = Document("c", messages=[{"role": "user", "content": "a\0"}])
    assert Unicode(UnicodeConfig()).judge([chat]) == [KEEP]


def test_ftfy_is_asked_for_only_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmgraft_clean_text.plugin.find_spec", lambda name: None)
    (problem,) = UnicodeConfig().check()
    assert "lmgraft[text]" in str(problem)
    assert not list(UnicodeConfig(fix=False).check())
