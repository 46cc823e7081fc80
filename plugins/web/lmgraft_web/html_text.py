"""Filter ``html_text``: the main text of web pages in place of their markup."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence

from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import KEEP, Verdict

from lmgraft_web.plugin import Extractor, HtmlTextConfig

__all__ = ["HtmlText", "is_markup", "resiliparse_text", "trafilatura_text"]

#: Elements that only HTML has, or nearly so: "1 < 2 and 3 > 2" and C++'s <vector> are no markup.
_HTML = re.compile(
    r"<(?:!doctype\s+html|/?(?:html|head|body|title|meta|div|p|span|table|td|tr|article|section|main|nav|header|footer|"
    r"a|b|i|em|strong|br|hr|img|ul|ol|li|h[1-6]|script|style|link|form|iframe|font|center|blockquote|pre))\b[^<>]{0,2000}>",
    re.I,
)
#: Feeds, drawings, documents and binaries that a server sent as a page.
_OTHER = re.compile(
    r"\s*(?:%PDF-|\{\\rtf|PK\x03\x04|GIF8|\x89PNG|\xff\xd8\xff|<(?:rss|feed|svg|urlset|sitemapindex)\b)", re.I
)
_XML = re.compile(r"\s*<\?xml\b", re.I)
_DIV = re.compile(r"<(/?)div\b", re.I)


class HtmlText:
    """Row-wise: rewrites each page to its main text (reason ``html``).

    Dropped are pages without text (``no_text``), pages that are too large to be parsed safely (``too_large``), what a
    server sent as a page and is none (``not_html``: PDF, feeds, binaries), and pages that the library fails on
    (``failed``). What is no markup stays as it is: WET's plain text, chats, pairs.

    Rules: trafilatura's (Barbaresi, "Trafilatura: A Web Scraping Library", ACL 2021) or resiliparse's (Bevendorff et
    al., "Elastic ChatNoir", ECIR 2018, and the library's documentation), with the options that the settings name.
    FineWeb (section 3.1; its published script) takes trafilatura with ``favor_precision`` and its deduplication of
    segments, which looks at the pages before and so is not done here. There is no limit of time: it would depend on the
    machine which pages stay. Size, elements and depth are limited instead, before anything is parsed.
    """

    def __init__(self, config: HtmlTextConfig) -> None:
        self.config = config
        trafilatura = config.extractor is Extractor.trafilatura
        self.extract = trafilatura_text(config) if trafilatura else resiliparse_text(config)

    def judge(self, batch: Sequence[Document]) -> list[Verdict]:
        return [self._judge(document) for document in batch]

    def _judge(self, document: Document) -> Verdict:
        text, mime = document.text, document.meta.get("mime")
        if text is None or mime == "text/plain":
            return KEEP
        if not is_markup(text):
            return _unlike_a_page(text, bool(mime))
        if self._too_large(text):
            return Verdict.drop("too_large")
        try:
            found = self.extract(text, str(document.meta.get("url") or "") or None)
        except Exception:  # of a library, on a page that strangers wrote
            return Verdict.drop("failed")
        if len(found) < self.config.min_chars:
            return Verdict.drop("no_text")
        return Verdict.rewrite(found, "html")

    def _too_large(self, text: str) -> bool:
        config, tags = self.config, text.count("<")
        if len(text) > config.page_chars or tags > config.page_tags:
            return True
        return tags > config.page_depth and _deep(text, config.page_depth)  # few tags cannot be deep


def is_markup(text: str) -> bool:
    """Whether a text is HTML: it has one of its elements, and does not begin as something else does."""
    if "<" not in text or _OTHER.match(text):
        return False
    if _XML.match(text):
        head = text[:4096].lower()
        return "<html" in head or "<!doctype html" in head
    return _HTML.search(text) is not None


def trafilatura_text(config: HtmlTextConfig) -> Callable[[str, str | None], str]:
    """trafilatura's ``extract`` with the options of ``config``. It holds nothing of one page for the next: its
    deduplication, which does, stays off."""
    from trafilatura import extract

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it warns of each page without text; we count them
    options = {
        "favor_precision": config.precision,
        "favor_recall": config.recall,
        "include_comments": config.comments,
        "include_tables": config.tables,
        "include_links": config.links,
        "include_formatting": config.formatting,
        "deduplicate": False,
        "fast": config.fast,
    }
    # The URL makes links absolute and changes nothing else of the text.
    return lambda text, url: extract(text, url=url if config.links else None, **options) or ""


def resiliparse_text(config: HtmlTextConfig) -> Callable[[str, str | None], str]:
    """resiliparse's ``extract_plain_text`` of the main content, with the options of ``config``."""
    from resiliparse.extract.html2text import extract_plain_text

    options = {
        "main_content": True,
        "preserve_formatting": True,
        "list_bullets": config.formatting,
        "alt_texts": False,
        "links": config.links,
        "form_fields": False,
        "noscript": False,
        "post_meta": False,
        "comments": config.comments,
    }
    return lambda text, url: str(extract_plain_text(text, **options)).strip()


def _unlike_a_page(text: str, was_page: bool) -> Verdict:
    """Text that has no markup: kept, unless it is empty, binary or another format."""
    if not text.strip():
        return Verdict.drop("no_text")
    head = text[:1024]
    binary = "\0" in head and (was_page or sum(map(head.count, _CONTROLS)) * 10 > len(head))
    return Verdict.drop("not_html") if binary or _OTHER.match(text) or _XML.match(text) else KEEP


_CONTROLS = tuple(chr(code) for code in range(32) if chr(code) not in "\t\n\r\f")


def _deep(text: str, limit: int) -> bool:
    if text.count("<div") + text.count("<DIV") <= limit:
        return False
    depth = 0
    for mark in _DIV.finditer(text):
        depth += -1 if mark[1] else 1
        if depth > limit:
            return True
        depth = max(depth, 0)
    return False
