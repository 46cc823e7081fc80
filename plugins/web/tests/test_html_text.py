"""``html_text``: what is a page, what is too large, and that no page changes what becomes of the next."""

from __future__ import annotations

import gzip
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import KEEP, Verdict
from lmgraft_web.html_pages import HtmlPages
from lmgraft_web.html_text import HtmlText, is_markup
from lmgraft_web.plugin import Extractor, HtmlPagesConfig, HtmlTextConfig

DATA = Path(os.environ.get("LMGRAFT_TEST_DATA", "/nowhere")) / "html"
BOTH = pytest.mark.parametrize("extractor", list(Extractor), ids=lambda one: one.value)
WORDS = "The ship left the harbour in the early morning, and nobody who stood on the pier waved to it. "
PAGE = (
    "<!DOCTYPE html><html><head><title>t</title></head><body><nav><ul><li><a href='/'>Home</a></li></ul></nav>"
    f"<article><h1>A ship</h1><p>{WORDS * 3}</p><p>{WORDS[::-1] * 2}</p></article>"
    "<div class='comments'><p>Nice one, said a reader of this page.</p></div><footer>Imprint</footer></body></html>"
)


def judge(text: str | None, mime: str | None = None, **settings: Any) -> Verdict:
    document = Document(id="x", text=text, meta={"mime": mime} if mime else {})
    (verdict,) = HtmlText(HtmlTextConfig(**settings)).judge([document])
    return verdict


@BOTH
def test_a_page(extractor: Extractor) -> None:
    verdict = judge(PAGE, extractor=extractor)
    assert verdict.reason == "html"
    assert WORDS.strip() in (verdict.text or "")
    assert "Home" not in (verdict.text or "")
    assert "Imprint" not in (verdict.text or "")
    assert "<" not in (verdict.text or "")


@BOTH
@pytest.mark.parametrize(
    ("text", "mime", "reason"),
    [
        ("<html><head><title>t</title></head><body></body></html>", None, "no_text"),
        ("<script>var a = '<p>';</script>", None, "no_text"),
        ("", None, "no_text"),
        (" \n", "text/html", "no_text"),
        ("%PDF-1.4 <p>", "text/html", "not_html"),
        ("\x89PNG\r\n\x1a\n\0\0\0", "text/html", "not_html"),
        ("<?xml version='1.0'?><rss><item><p>x</p></item></rss>", "text/html", "not_html"),
        ("<rss version='2.0'><channel><p>x</p></channel></rss>", None, "not_html"),
        ("\0\1\2\3" * 99, None, "not_html"),
        ("<p>" + "x" * 3_000, None, "too_large"),
        ("<html>" + "<br>" * 60, None, "too_large"),
    ],
)
def test_what_is_dropped(extractor: Extractor, text: str, mime: str | None, reason: str) -> None:
    limits = {"page_chars": 2_000, "page_tags": 50}
    assert judge(text, mime, extractor=extractor, **limits) == Verdict.drop(reason)


@BOTH
@pytest.mark.parametrize(
    "text",
    [
        "Plain text.\n\nTwo paragraphs of it.",
        "if 1 < 2 and 3 > 2: std::vector<int> x; a <- b",
        "mail me <me@a.example> <https://a.example>",
        '{"a": "json"}',
        "\0 one control character in many words of a text that goes on for a while",
    ],
)
def test_what_is_no_markup_stays(extractor: Extractor, text: str) -> None:
    assert judge(text, extractor=extractor) is KEEP


def test_wet_text_stays_whatever_it_holds() -> None:
    assert judge("how to write <p> in <html>", "text/plain") is KEEP


def test_chats_stay() -> None:
    assert judge(None) is KEEP


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<p>x</p>", True),
        ("<!doctype HTML>x", True),
        ("x<br/>y", True),
        ("<?xml version='1.0'?>\n<!DOCTYPE html PUBLIC><html xmlns='x'>", True),
        ("<?xml version='1.0'?><note><to>x</to></note>", False),
        ("<svg><p/></svg>", False),
        ("a<b and c>d", True),  # as good as <b>
        ("a < b and c > d", False),
        ("<unknown>", False),
    ],
)
def test_markup(text: str, found: bool) -> None:
    assert is_markup(text) is found


def test_depth_is_limited() -> None:
    deep = "<div>" * 3000 + "x" + "</div>" * 3000
    flat = "<div>x</div>" * 3000
    assert judge(deep, extractor=Extractor.resiliparse) == Verdict.drop("too_large")
    assert judge(flat, extractor=Extractor.resiliparse).reason == "html"


@BOTH
@pytest.mark.parametrize("tag", ["div", "p", "span", "b", "table><tr><td", "ul><li", "a href=x", "font><i"])
def test_hostile_nesting_ends_soon(extractor: Extractor, tag: str) -> None:
    page = "<html><body>" + f"<{tag}>" * (25_000 // (1 + tag.count("<"))) + WORDS
    started = time.process_time()
    assert judge(page, extractor=extractor).reason in ("html", "no_text", "too_large", "failed")
    assert time.process_time() - started < 5


@BOTH
def test_pages_do_not_see_each_other(extractor: Extractor) -> None:
    part = HtmlText(HtmlTextConfig(extractor=extractor))
    first = part.judge([Document(id="x", text=PAGE)])[0].text
    shown = [Document(id=str(number), text=PAGE.replace("A ship", f"Ship {number}")) for number in range(9)]
    texts = [verdict.text for verdict in part.judge(shown)]
    assert [text and text.replace(f"Ship {number}", "A ship") for number, text in enumerate(texts)] == [first] * 9


def test_options_reach_the_library() -> None:
    table = PAGE.replace("</article>", "<table><tr><td>cell one</td><td>cell two</td></tr></table></article>")
    assert "cell one" in (judge(table).text or "")
    assert "cell one" not in (judge(table, tables=False).text or "")
    linked = PAGE.replace("<p>The ship", "<p><a href='http://a.example/ship'>The</a> ship")
    assert "http://a.example/ship" in (judge(linked, links=True).text or "")
    assert "http://a.example/ship" not in (judge(linked).text or "")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"recall": True}, "precision and recall"),
        ({"page_chars": 0}, "page_chars is 0"),
        ({"min_chars": 0}, "min_chars is 0"),
        ({"extractor": Extractor.resiliparse, "fast": True}, "fast is a setting of trafilatura"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], said: str) -> None:
    (problem,) = HtmlTextConfig(**settings).check()
    assert said in problem


@pytest.mark.skipif(not DATA.is_dir(), reason="LMGRAFT_TEST_DATA is not set")
@BOTH
def test_gold_pages(extractor: Extractor) -> None:
    gold = json.loads(gzip.decompress((DATA / "trafilatura" / "evaldata.json.gz").read_bytes()))
    source = HtmlPages(HtmlPagesConfig(path=str(DATA / "trafilatura")))
    pages = {unit.id: next(iter(source.read(unit, 0))) for unit in source.units()[:40]}
    part = HtmlText(HtmlTextConfig(extractor=extractor))
    documents = [page for page in pages.values() if isinstance(page, Document)]
    texts = {page.id: verdict.text or "" for page, verdict in zip(documents, part.judge(documents), strict=True)}
    wanted = [string in texts[name] for name in texts for string in gold[name]["with"]]
    unwanted = [string in texts[name] for name in texts for string in gold[name]["without"]]
    assert sum(wanted) / len(wanted) > 0.85
    assert sum(unwanted) / len(unwanted) < 0.25
