"""The light half of the web's parts: their settings and where their classes lie."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from lmgraft.component import Component, ComponentConfig, execution
from lmgraft.errors import Problem
from lmgraft.hookspecs import hookimpl

from lmgraft_web.places import check_paths, entries, is_url, refused_url, shown

__all__ = [
    "CommonCrawlConfig",
    "Extractor",
    "HtmlPagesConfig",
    "HtmlTextConfig",
    "UrlConfig",
    "lmgraft_data_source",
    "lmgraft_filter",
]

_FASTWARC, _RESILIPARSE, _TRAFILATURA = "FastWARC>=2.0", "resiliparse>=2.0", "trafilatura>=2.0"
#: jusText, which trafilatura asks, wants what lxml has given up; not every installer follows the extra that says so.
_CLEAN = "lxml_html_clean>=0.4"


@dataclass
class CommonCrawlConfig(ComponentConfig):
    """Web archives: WARC, ARC and WET files, local or by http(s)."""

    path: Any = execution(None)
    """A file, a folder (read with all below it), a glob, an http(s) URL, or a list of these; null reads nothing."""
    listing: str | None = execution(None)
    """A file or URL with the path of one archive a line, as Common Crawl's ``warc.paths.gz``."""
    base: str = execution("https://data.commoncrawl.org/")
    """What the paths of ``listing`` are relative to: an http(s) URL, or a local folder."""
    first: int = 0
    """Only the first so many archives of ``listing``; 0 reads all."""
    mime: list[str] = field(default_factory=lambda: ["text/html", "application/xhtml+xml"])
    """Responses and resources of these types become documents (HTTP's type, or the one that the crawler found). Plain
    text of WET files does always."""
    status: list[int] = field(default_factory=lambda: [200])
    """HTTP codes of the responses that become documents; empty: any."""
    verify: bool = True
    """Compare each document's bytes with its digest; one that differs counts as damaged (``bad_digest``)."""
    record_bytes: int = 16 << 20
    """A document above this, packed or unpacked, counts as damaged (``too_long``) and is never held in memory."""
    timeout: int = execution(60)
    """Seconds that a server may take to answer, and between two pieces of what it sends."""
    retries: int = execution(5)
    """How often a download that broke is taken up again where it ended, without a byte in between."""

    def provides(self) -> frozenset[str]:
        return frozenset({"columns:text"})

    def ready(self) -> bool:
        return self.path is not None or self.listing is not None

    def paths(self) -> list[str]:
        """``path`` as a list, ``~`` expanded."""
        return entries(self.path)

    def check(self) -> Iterator[Problem | str]:
        yield from check_paths("common_crawl", self.path, urls=True)
        for key in ("listing", "base"):
            value = str(getattr(self, key) or "")
            if is_url(value) and (why := refused_url(value)) is not None:
                yield Problem(f"common_crawl.{key}: {shown(value)} cannot be read", *why)
        if not self.mime or not all(self.mime):
            yield "mime is empty; it names the types that become documents, as in [text/html]"
        yield from (f"mime holds {name!r}; expected TYPE/SUBTYPE" for name in self.mime if name and "/" not in name)
        yield from (
            f"status holds {code}; HTTP's codes are 100 to 599" for code in self.status if not 100 <= code < 600
        )
        if self.first < 0:
            yield f"first is {self.first}; it counts archives"
        if self.record_bytes < 1024:
            yield f"record_bytes is {self.record_bytes}; a record may take at least 1024 bytes"
        if self.timeout < 1:
            yield f"timeout is {self.timeout}; it counts seconds, at least 1"
        if self.retries < 0:
            yield f"retries is {self.retries}; it counts attempts after the first"
        if not self.base:
            yield "base is empty; it is the URL or folder that the paths of listing are relative to"


@dataclass
class HtmlPagesConfig(ComponentConfig):
    """Folders of saved web pages: .html, .htm and .xhtml, also .gz."""

    path: Any = execution(None)
    """A file, a folder (read with all below it), a glob, or a list of these; null reads nothing."""
    urls: str | None = execution(None)
    """A file that says which URL each page was saved from: a line of name and URL, a tab or comma between them; null
    takes the page's own ``<link rel=canonical>``."""
    charset: str | None = None
    """The encoding of pages without a byte order mark; null finds it for each (``meta``, then a guess)."""
    page_bytes: int = 16 << 20
    """A page above this, unpacked, counts as damaged (``too_long``) and is never held in memory."""

    def provides(self) -> frozenset[str]:
        return frozenset({"columns:text"})

    def ready(self) -> bool:
        return self.path is not None

    def paths(self) -> list[str]:
        """``path`` as a list, ``~`` expanded."""
        return entries(self.path)

    def check(self) -> Iterator[Problem | str]:
        import codecs

        yield from check_paths("html_pages", self.path, urls=False)
        if self.charset is not None:
            try:
                codecs.lookup(self.charset)
            except LookupError:
                yield f"charset is {self.charset!r}, which Python does not know; try utf-8 or cp1252"
        if self.page_bytes < 1024:
            yield f"page_bytes is {self.page_bytes}; a page may take at least 1024 bytes"


class Extractor(Enum):
    """Which library finds a page's main text."""

    trafilatura = "trafilatura"
    resiliparse = "resiliparse"


@dataclass
class HtmlTextConfig(ComponentConfig):
    """The main text of web pages in place of their markup."""

    extractor: Extractor = Extractor.trafilatura
    """``trafilatura``: rules, checked against readability and jusText; ``resiliparse``: rules, many times as fast."""
    precision: bool = True
    """Of trafilatura: rather less text than too much, as FineWeb has it (``favor_precision``)."""
    recall: bool = False
    """Of trafilatura: rather too much text than less (``favor_recall``)."""
    comments: bool = False
    """Keep readers' comments."""
    tables: bool = True
    """Of trafilatura: keep the text of tables."""
    links: bool = False
    """Keep the targets of links."""
    formatting: bool = False
    """Of trafilatura: mark headings and emphasis as Markdown does. Of resiliparse: mark list items with bullets."""
    fast: bool = False
    """Of trafilatura: its own rules alone, without the comparison with readability and jusText."""
    page_chars: int = 2_000_000
    """A page of more characters is dropped (``too_large``) and never parsed."""
    page_tags: int = 30_000
    """A page with more ``<`` than this is dropped (``too_large``): the time of extraction grows with their number."""
    page_depth: int = 2_000
    """A page whose ``div`` are nested deeper is dropped (``too_large``): resiliparse's time grows by its square."""
    min_chars: int = 1
    """A page whose text has fewer characters is dropped (``no_text``)."""

    def needs(self) -> frozenset[str]:
        return frozenset({"columns:text"})

    def check(self) -> Iterator[str]:
        if self.precision and self.recall:
            yield "precision and recall are both true; set one of them to false"
        for name in ("page_chars", "page_tags", "page_depth", "min_chars"):
            if getattr(self, name) < 1:
                yield f"{name} is {getattr(self, name)}; it must be at least 1"
        if self.extractor is Extractor.resiliparse and self.fast:
            yield "fast is a setting of trafilatura; resiliparse is fast without it"


@dataclass
class UrlConfig(ComponentConfig):
    """Lists of what URLs may not be or hold, each a file, a folder or several of these.

    What the lists hold is part of what is cached, and not where they lie.
    """

    domains: Any = execution(None)
    """Domains; those below them are meant too. One a line, or as a hosts file (``0.0.0.0 NAME``); of a folder all
    files named ``domains`` and ``urls``, as the UT1 lists have them, are read for what they are."""
    urls: Any = execution(None)
    """URLs, one a line; what lies below one is meant too. ``http://``, ``www.`` and a last ``/`` make no difference."""
    hard_words: Any = execution(None)
    """Words of which one in the URL is enough; one a line."""
    soft_words: Any = execution(None)
    """Words of which ``soft_threshold`` are needed; one a line."""
    substrings: Any = execution(None)
    """Words that the URL's letters and digits may not hold anywhere, even inside other words; one a line."""
    soft_threshold: int = 2
    """How many different soft words drop a URL."""
    allow: Any = execution(None)
    """Domains that are kept whatever the lists say; those below them too."""

    required: bool = True
    """Refuse to run without any list. False is for recipes that leave the lists to their user: without one, all
    documents stay."""

    def check(self) -> Iterator[Problem | str]:
        named = ("domains", "urls", "hard_words", "soft_words", "substrings")
        if self.required and not any(entries(getattr(self, name)) for name in named):
            yield f"domains is null, and so are {', '.join(named[1:])}; it needs at least one list, or required=false"
        for name in (*named, "allow"):
            yield from check_paths("url", getattr(self, name), urls=False, key=name)
        if self.soft_threshold < 1:
            yield f"soft_threshold is {self.soft_threshold}; it counts words, at least 1"


@hookimpl
def lmgraft_data_source() -> list[Component[Any]]:
    return [
        Component(
            name="common_crawl",
            target="lmgraft_web.common_crawl:CommonCrawl",
            config=CommonCrawlConfig,
            summary="Web archives (WARC, ARC, WET), local or by http(s)",
            requires=(_FASTWARC, _RESILIPARSE),
        ),
        Component(
            name="html_pages",
            target="lmgraft_web.html_pages:HtmlPages",
            config=HtmlPagesConfig,
            summary="Saved web pages, a file each, as raw markup",
            requires=(_RESILIPARSE,),
        ),
    ]


@hookimpl
def lmgraft_filter() -> list[Component[Any]]:
    return [
        Component(
            name="html_text",
            target="lmgraft_web.html_text:HtmlText",
            config=HtmlTextConfig,
            summary="The main text of web pages in place of their markup",
            requires=(_TRAFILATURA, _CLEAN, _RESILIPARSE),
        ),
        Component(
            name="url",
            target="lmgraft_web.url:Url",
            config=UrlConfig,
            summary="Drops documents by their URL: lists of domains, URLs and words",
        ),
    ]
