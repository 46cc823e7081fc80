"""``html_pages``: pages in folders, what they are encoded in and where they came from, and what is damaged."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import pytest
from lmgraft.errors import UserError
from lmgraft.seams.data_source import Damaged, Document
from lmgraft_web.html_pages import HtmlPages
from lmgraft_web.plugin import HtmlPagesConfig

DATA = Path(os.environ.get("LMGRAFT_TEST_DATA", "/nowhere")) / "html" / "scrapinghub"


def read(**settings: Any) -> dict[str, Document | str]:
    """Unit's id -> its document, or why it is damaged."""
    part = HtmlPages(HtmlPagesConfig(**{key: str(value) for key, value in settings.items() if value is not None}))
    found: dict[str, Document | str] = {}
    for unit in part.units():
        (one,) = part.read(unit, 0)
        assert not isinstance(one, Damaged) or unit.id in one.problem.fact
        found[unit.id] = one if isinstance(one, Document) else one.reason
        assert list(part.read(unit, 1)) == []
    return found


def test_pages(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b.html").write_bytes("<p>é</p>".encode())
    (tmp_path / "in" / "a.XHTML.gz").write_bytes(gzip.compress(b"<p>a</p>") + gzip.compress(b"<p>b</p>"))
    (tmp_path / "c.htm").write_bytes(b'<meta charset="windows-1251"><p>' + "привет".encode("cp1251"))
    (tmp_path / "style.css").write_bytes(b"p {}")
    found = read(path=tmp_path)
    assert list(found) == ["c.htm", "in/a.XHTML.gz", "in/b.html"]
    texts = {name: one.text for name, one in found.items() if isinstance(one, Document)}
    assert texts["in/a.XHTML.gz"] == "<p>a</p><p>b</p>"
    assert texts["in/b.html"] == "<p>é</p>"
    assert (texts["c.htm"] or "").endswith("привет")
    page = found["c.htm"]
    assert isinstance(page, Document)
    assert (page.meta, page.group) == ({"charset": "cp1251", "mime": "text/html"}, "")


@pytest.mark.parametrize(
    ("link", "url"),
    [
        ('<link rel="canonical" href="https://a.example/x?a=1&amp;b=2">', "https://a.example/x?a=1&b=2"),
        ("<LINK HREF=http://a.example/x REL=canonical />", "http://a.example/x"),
        ('<link rel="stylesheet" href="http://a.example/x.css">', None),
        ('<link rel="canonical" href="/relative">', None),
        ('<link rel="canonical" href="javascript:x">', None),
        ('<link rel="canonical" href="http://[::1">', None),
        ('<link rel="canonical">', None),
    ],
)
def test_where_a_page_came_from(tmp_path: Path, link: str, url: str | None) -> None:
    (tmp_path / "a.html").write_text(f"<html><head>{link}</head></html>", encoding="utf-8")
    (page,) = read(path=tmp_path).values()
    assert isinstance(page, Document)
    assert page.meta.get("url") == url
    assert page.group == ("a.example" if url else "")


def test_a_file_of_urls(tmp_path: Path) -> None:
    pages, urls = tmp_path / "pages", tmp_path / "urls.tsv"
    pages.mkdir()
    for name in ("a", "b"):
        (pages / f"{name}.html").write_text('<link rel="canonical" href="http://other.example/">', encoding="utf-8")
    urls.write_text("a.html\thttp://a.example/1\n\n", encoding="utf-8")
    found = read(path=pages, urls=urls)
    assert [one.group for one in found.values() if isinstance(one, Document)] == ["a.example", "other.example"]
    pinned = HtmlPages(HtmlPagesConfig(path=str(pages), urls=str(urls))).units()[0]
    urls.write_text("a.html,http://a.example/2\n", encoding="utf-8")
    changed = HtmlPages(HtmlPagesConfig(path=str(pages), urls=str(urls))).units()[0]
    assert pinned.path is None
    assert pinned.digest != changed.digest
    urls.write_text("a.html\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"urls\.tsv:1 gives no URL"):
        read(path=pages, urls=urls)
    with pytest.raises(UserError, match="cannot be read"):
        read(path=pages, urls=tmp_path / "none.tsv")


def test_what_is_damaged(tmp_path: Path) -> None:
    whole = gzip.compress(b"<p>a page</p>" * 99)
    files = {
        "cut.html.gz": whole[:-9],
        "bad.html.gz": whole[:20] + b"\xff\xff\xff\xff" + whole[24:],
        "bomb.html.gz": gzip.compress(b"a" * 50_000_000),
        "long.html": b"<p>" + b"x" * 5000,
        "empty.html": b"",
        "whole.html": b"<p>whole</p>",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    part = HtmlPages(HtmlPagesConfig(path=str(tmp_path), page_bytes=4000))
    reasons = {}
    for unit in part.units():
        (one,) = part.read(unit, 0)
        reasons[unit.id] = one.reason if isinstance(one, Damaged) else ""
    assert reasons == {
        "bad.html.gz": "bad_gzip",
        "bomb.html.gz": "too_long",
        "cut.html.gz": "truncated",
        "empty.html": "empty",
        "long.html": "too_long",
        "whole.html": "",
    }


def test_bad_bytes_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes(b"<p>" + "å".encode() * 200 + b"\xff</p>")
    (page,) = read(path=tmp_path, charset="utf-8").values()
    assert isinstance(page, Document)
    assert page.meta["replaced"] == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"path": "https://a.example/"}, "download it first"),
        ({"path": "/no/such/place"}, "does not exist"),
        ({"charset": "klingon"}, "klingon"),
        ({"page_bytes": 1}, "page_bytes is 1"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], said: str) -> None:
    (problem,) = HtmlPagesConfig(**settings).check()
    assert said in str(problem)


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to read"):
        read(path=tmp_path)
    with pytest.raises(UserError, match="is not set"):
        HtmlPages(HtmlPagesConfig()).units()


@pytest.mark.skipif(not DATA.is_dir(), reason="LMGRAFT_TEST_DATA is not set")
def test_real_pages() -> None:
    found = read(path=DATA)
    assert len(found) == 110
    pages = [one for one in found.values() if isinstance(one, Document)]
    assert len(pages) == 110
    assert sum("url" in one.meta for one in pages) > 90
    assert sum(one.meta.get("replaced", 0) for one in pages) < 20
