"""Codes of languages, and the code that was meant."""

from __future__ import annotations

import pytest
from lmgraft import languages


@pytest.mark.parametrize(
    "code",
    ["en", "de", "zh-Hans", "zh-Hant-TW", "en-US", "es-419", "yue", "ceb", "eng", "sl-rozaj", "multilingual", "code"],
)
def test_a_code_is_taken(code: str) -> None:
    assert languages.wrong(code) is None


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("english", "en"), ("English", "en"), (" german ", "de"), ("en\n", "en"), ("EN", "en"),
        ("englsh", "en"), ("portugese", "pt"),
        ("en_US", "en-US"), ("jp", "ja"), ("us", "en"), ("Scottish Gaelic", "gd"), ("日本語", "ja"),
    ],
)  # fmt: skip
def test_another_word_is_told_with_the_code_that_is_meant(word: str, meant: str) -> None:
    found = languages.wrong(word)
    assert found is not None
    cause, near = found
    assert near == meant
    assert f"this one is {meant} there" in cause
    assert languages.wrong(meant) is None


@pytest.mark.parametrize("word", ["", "xx", "a b", "klingonese-xyz", "en-", "en--US", "-", "q", "code names"])
def test_where_nothing_is_near_examples_are_told(word: str) -> None:
    found = languages.wrong(word)
    assert found is not None
    assert found[1] == ""
    assert "such as en, de or zh-Hans" in found[0]
