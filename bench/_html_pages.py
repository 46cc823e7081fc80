"""One side of ``python -m bench html``: ``python _html_pages.py SIDE PAGES OUT``, in this project's Python or a peer's.

Reads PAGES (a JSON object, page's name -> markup), extracts each page once to warm up and once timed, and writes to OUT
``{"seconds": processor time, "texts": {name: text}}``.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIDES = (
    "html_text",
    "html_text resiliparse",
    "trafilatura",
    "trafilatura ours",
    "resiliparse",
    "resiliparse ours",
)
#: What the settings' defaults stand for, said to the libraries themselves.
PRECISION: dict[str, Any] = {"favor_precision": True, "include_comments": False, "deduplicate": False}
MAIN: dict[str, Any] = {
    "main_content": True, "preserve_formatting": True, "list_bullets": False, "alt_texts": False, "links": False,
    "form_fields": False, "noscript": False, "comments": False, "post_meta": False,
}  # fmt: skip


def extractor(side: str) -> Callable[[str], str]:
    """The call that is timed."""
    if side.startswith("html_text"):
        from lmgraft.seams.data_source import Document
        from lmgraft_web.html_text import HtmlText
        from lmgraft_web.plugin import Extractor, HtmlTextConfig

        which = Extractor.resiliparse if "resiliparse" in side else Extractor.trafilatura
        part = HtmlText(HtmlTextConfig(extractor=which))
        return lambda page: part.judge([Document(id="", text=page)])[0].text or ""
    if side.startswith("trafilatura"):
        from trafilatura import extract

        logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
        options = PRECISION if "ours" in side else {}
        return lambda page: extract(page, **options) or ""
    from resiliparse.extract.html2text import extract_plain_text

    options = MAIN if "ours" in side else {"main_content": True}
    return lambda page: extract_plain_text(page, **options).strip()


def main(side: str, pages: str, out: str) -> None:
    markup = json.loads(Path(pages).read_text(encoding="utf-8"))
    extract = extractor(side)
    texts = {name: extract(page) for name, page in markup.items()}
    started = time.process_time()
    for page in markup.values():
        extract(page)
    seconds = time.process_time() - started
    Path(out).write_text(json.dumps({"seconds": seconds, "texts": texts}), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
