"""Holds the web's parts to their contracts: WET and WARC files, saved pages, and pages and URLs of every kind."""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lmgraft.seams.data_source import Document
from lmgraft.testing import DataSourceSuite, FilterSuite
from lmgraft.testing.inputs import texts

__all__ = ["TestCommonCrawl", "TestHtmlPages", "TestHtmlText", "TestHtmlTextFast", "TestUrl", "TestWet", "record"]


def record(kind: str, number: int, block: bytes, **headers: str) -> bytes:
    """A record of WARC 1.0 with its payload's digest; of a response, ``block`` is what follows the HTTP header."""
    digest = base64.b32encode(hashlib.sha1(block).digest()).decode()
    if kind == "response":
        block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + block
    content = {"response": "application/http; msgtype=response", "conversion": "text/plain"}.get(kind, "text/html")
    lines = {
        "WARC-Type": kind,
        "WARC-Record-ID": f"<urn:uuid:00000000-0000-0000-0000-{number:012d}>",
        "WARC-Date": "2024-02-28T12:00:00Z",
        "WARC-Target-URI": f"http://example{number % 5}.com/{number}",
        "WARC-Payload-Digest": f"sha1:{digest}",
        "Content-Type": content,
        "Content-Length": str(len(block)),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"WARC/1.0\r\n{head}\r\n".encode() + block + b"\r\n\r\n"


class TestCommonCrawl(DataSourceSuite):
    """Responses, a gzip member each; requests between them."""

    component = "common_crawl"

    def write(self, folder: Path, texts: Sequence[str]) -> Mapping[str, Any]:
        for part in (0, 1):
            records = []
            for number, text in list(enumerate(texts))[part::2]:
                records.append(record("request", number, b"GET / HTTP/1.1\r\n\r\n", Content_Type="application/http"))
                records.append(record("response", number, text.encode()))
            (folder / f"{1 - part}.warc.gz").write_bytes(b"".join(map(gzip.compress, records)))
        return {"path": str(folder)}

    def break_input(self, folder: Path) -> Mapping[str, Any]:
        (folder / "page.warc").write_text("<html>a page that was saved under the wrong name</html>", encoding="utf-8")
        return {"path": str(folder)}


class TestWet(DataSourceSuite):
    """Plain text of WET files, not compressed."""

    component = "common_crawl"

    def write(self, folder: Path, texts: Sequence[str]) -> Mapping[str, Any]:
        records = [record("conversion", number, text.encode()) for number, text in enumerate(texts)]
        (folder / "b.warc.wet").write_bytes(b"".join(records[::2]))
        (folder / "a.warc.wet").write_bytes(b"".join(records[1::2]))
        return {"path": [str(folder / "b.warc.wet"), str(folder / "a.warc.wet")]}

    def break_input(self, folder: Path) -> Mapping[str, Any]:
        records = [record("conversion", number, f"text {number}".encode()) for number in range(5)]
        records[1] = records[1].replace(b"text 1", b"texT 1")
        records[3] = records[3][: len(records[3]) // 2]
        (folder / "a.warc.wet.gz").write_bytes(b"".join(map(gzip.compress, records)))
        return {"path": str(folder)}


class TestHtmlPages(DataSourceSuite):
    """Pages in folders, packed and not."""

    component = "html_pages"

    def write(self, folder: Path, texts: Sequence[str]) -> Mapping[str, Any]:
        for number, text in enumerate(texts):
            data = b'<meta charset="utf-8">' + text.encode()
            file = folder / str(number % 3) / f"{number}.html{'.gz' if number % 2 else ''}"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(gzip.compress(data, mtime=0) if number % 2 else data)
        return {"path": str(folder)}

    def break_input(self, folder: Path) -> Mapping[str, Any]:
        (folder / "cut.html.gz").write_bytes(gzip.compress(b"<p>a page</p>" * 9)[:-9])
        return {"path": str(folder)}

    def texts_of(self, document: Document) -> list[str]:
        return [(document.text or "").removeprefix('<meta charset="utf-8">')]


class _OfPages(FilterSuite):
    """Pages with and without text, too large ones, and what is no markup."""

    def documents(self) -> list[Document]:
        some = texts(80)
        pages = [_page(" ".join(some[n : n + 9])) for n in range(0, 70, 9)]
        pages += ["<html><body></body></html>", "<html><script>x()</script></html>", "", "plain text, no markup"]
        pages += ["<p>" * 900 + "deep", "<html><body>" + "<br>" * 4000, "<!doctype html>" + "x" * 90_000]
        pages += ["%PDF-1.4 \x00\x01", "1 < 2 and 3 > 2", "<html><body><p>\x00\x01\ufffd</p></body></html>"]
        chat = Document(id="chat", messages=[{"role": "user", "content": "<p>a</p>"}])
        return [Document(id=str(number), text=page) for number, page in enumerate(pages)] + [chat]


class TestHtmlText(_OfPages):
    """trafilatura."""

    component = "html_text"
    settings: ClassVar[dict[str, Any]] = {"page_chars": 50_000, "page_tags": 3_000}


class TestHtmlTextFast(_OfPages):
    """resiliparse."""

    component = "html_text"
    settings: ClassVar[dict[str, Any]] = {"extractor": "resiliparse", "page_chars": 50_000, "page_tags": 3_000}


class TestUrl(FilterSuite):
    """Every list, and documents without a URL."""

    component = "url"
    settings: ClassVar[dict[str, Any]] = {"soft_threshold": 2}

    def prepare(self) -> Mapping[str, Any]:
        folder = self.folder / "lists"
        folder.mkdir(exist_ok=True)
        lists = {
            "domains": "bad.example\n0.0.0.0 hosts.example\n# a comment\n",
            "urls": "http://www.mixed.example/bad/\n",
            "hard_words": "casino\n",
            "soft_words": "bet\nslots\n",
        }
        for name, body in lists.items():
            (folder / name).write_text(body, encoding="utf-8")
        return {name: str(folder / name) for name in lists}

    def documents(self) -> list[Document]:
        urls = ["http://bad.example/", "https://sub.bad.example/x", "http://hosts.example", "http://notbad.example/"]
        urls += ["https://mixed.example/bad", "http://mixed.example/bad/page?q=1", "http://mixed.example/badly", "::::"]
        urls += ["http://a.example/casino", "http://a.example/slots-and-bet", "http://a.example/bet", "http://[::1", ""]
        found = [Document(id=str(n), text="a text", meta={"url": url}) for n, url in enumerate(urls)]
        return [*found, Document(id="none", text="a text")]


def _page(text: str) -> str:
    menu = "".join(f'<li><a href="/{n}">Menu {n}</a></li>' for n in range(8))
    return (
        f"<!DOCTYPE html><html><head><title>A page</title></head><body><nav><ul>{menu}</ul></nav>"
        f"<article><h1>A heading</h1><p>{text}</p><p>{text[::-1]}</p></article><footer>Imprint</footer></body></html>"
    )
