"""Which encoding a page has, and what is counted where it has none."""

from __future__ import annotations

import pytest
from lmgraft_web.charset import decode

RUSSIAN = "<p>Съешь же ещё этих мягких французских булок, да выпей чаю.</p>" * 4
CHINESE = "<p>天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。寒来暑往，秋收冬藏。</p>" * 4


def meta(charset: str, text: str) -> bytes:
    return f'<html><head><meta charset="{charset}"></head>{text}'.encode(charset)


@pytest.mark.parametrize(
    ("data", "declared", "charset", "text"),
    [
        (RUSSIAN.encode("cp1251"), "windows-1251", "cp1251", RUSSIAN),
        (meta("windows-1251", RUSSIAN), None, "cp1251", None),
        (RUSSIAN.encode("utf-8"), None, "utf-8", RUSSIAN),
        (RUSSIAN.encode("cp1251"), None, "cp1251", RUSSIAN),
        (RUSSIAN.encode("utf-8-sig"), "windows-1251", "utf-8", RUSSIAN),
        (b"\xff\xfe" + RUSSIAN.encode("utf-16-le"), "utf-8", "utf-16-le", RUSSIAN),
        (CHINESE.encode("gbk"), "gb2312", "gb18030", CHINESE),
        (CHINESE.encode("big5", "replace"), "big5", "big5", None),
        ("naïve “café”".encode("cp1252"), "iso-8859-1", "cp1252", "naïve “café”"),
        (b"", None, "utf-8", ""),
        (RUSSIAN.encode("utf-8"), "no-such-charset", "utf-8", RUSSIAN),
    ],
)
def test_found(data: bytes, declared: str | None, charset: str, text: str | None) -> None:
    found = decode(data, declared)
    assert (found.charset, found.replaced) == (charset, 0)
    assert text is None or found.text == text


def test_what_is_declared_gives_way_where_it_is_wrong() -> None:
    found = decode(RUSSIAN.encode("cp1251"), "utf-8")
    assert (found.text, found.charset, found.replaced) == (RUSSIAN, "cp1251", 0)


def test_a_few_bad_bytes_do_not_change_the_encoding() -> None:
    found = decode(RUSSIAN.encode() + b"\xff\xfe end" + "\ufffd".encode(), "utf-8")
    assert found.charset == "utf-8"
    assert found.replaced == 2
    assert found.text.startswith(RUSSIAN)


def test_texts_of_wet_have_no_meta() -> None:
    assert decode(b'<meta charset="windows-1251"> \xc3\xa9', "utf-8", markup=False).text.endswith("é")


def test_a_meta_is_no_guess() -> None:
    text = "<meta name=x content='charset'>" + "a" * 6000 + "“quoted”"
    assert decode(text.encode()).text == text
    head = "<html><!-- " + "a" * 6000 + ' --><META http-equiv="Content-Type" content="text/html; charset=windows-1251">'
    assert decode((head + RUSSIAN).encode("cp1251")).text == head + RUSSIAN
    xml = '<?xml version="1.0" encoding="koi8-r"?>' + RUSSIAN
    assert decode(xml.encode("koi8-r", "replace"))[1] == "koi8-r"
    assert decode(b'<meta charset="utf-16">' + "é".encode()).text.endswith("é")
