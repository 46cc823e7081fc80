"""The main text of web pages with people's own for comparison: ``html_text``, and the libraries that it calls, bare.

Two sets of gold pages below ``LMGRAFT_TEST_DATA/html``, of which no page is part of this project:

- ``scrapinghub`` (article-extraction-benchmark, MIT): each page with its article's text. Scored as that benchmark does:
  shingles of four words; true and false ones of a page add up to one; precision and recall are means over pages, F1 is
  of these means.
- ``trafilatura`` (its tests' evaluation set, Apache 2.0): each page with strings that its text must have and must not
  have. Scored as that one does: over all strings of all pages.

The peers are ``trafilatura.extract(page)`` and ``extract_plain_text(page, main_content=True)``, as they come. Beside
them stand the same calls with the options that our defaults stand for: their texts must equal ours, page by page.
Times are the processor's, of one process on decoded pages, after each page was extracted once.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench._html_pages import SIDES
from bench.measure import machine, peer_python

#: Ours, and the same call of the library.
EQUAL = {"html_text": "trafilatura ours", "html_text resiliparse": "resiliparse ours"}
_WORD = re.compile(r"\w+")


def run(runs: int) -> tuple[str, dict[str, Any]]:
    root = os.environ.get("LMGRAFT_TEST_DATA")
    if not root:
        raise SystemExit("set LMGRAFT_TEST_DATA to the folder that holds html/scrapinghub and html/trafilatura")
    articles, strings = _gold(Path(root) / "html")
    with tempfile.TemporaryDirectory(prefix="bench-html-") as name:
        sides = _extracted(Path(name), {**_pages(articles), **_pages(strings)}, runs)
    unequal = {ours: _unequal(sides, ours, theirs) for ours, theirs in EQUAL.items()}
    if any(unequal.values()):
        raise SystemExit(f"texts differ from the library's own: {unequal}")
    count = len(articles) + len(strings)
    scores = {
        side: {
            "articles": articles_score(articles, found["texts"]),
            "strings": strings_score(strings, found["texts"]),
            "pages_per_second": count / statistics.median(found["seconds"]),
        }
        for side, found in sides.items()
    }
    return _table(scores, len(articles), len(strings), runs), {"pages": count, "sides": scores}


def articles_score(gold: Mapping[str, Any], texts: Mapping[str, str]) -> tuple[float, float, float]:
    """(precision, recall, F1) as article-extraction-benchmark has them."""
    precisions, recalls = [], []
    for name, page in gold.items():
        true, found = _shingles(page["articleBody"]), _shingles(texts[name])
        both = (true & found).total()
        if found.total():
            precisions.append(both / found.total())
        if true.total():
            recalls.append(both / true.total())
    return _with_f1(statistics.mean(precisions), statistics.mean(recalls))


def strings_score(gold: Mapping[str, Any], texts: Mapping[str, str]) -> tuple[float, float, float]:
    """(precision, recall, F1) as trafilatura's evaluation has them."""
    right = missed = wrong = 0
    for name, page in gold.items():
        found = sum(string in texts[name] for string in page["with"])
        right, missed = right + found, missed + len(page["with"]) - found
        wrong += sum(string in texts[name] for string in page["without"])
    return _with_f1(right / (right + wrong), right / (right + missed))


def _with_f1(precision: float, recall: float) -> tuple[float, float, float]:
    return precision, recall, 2 * precision * recall / (precision + recall)


def _shingles(text: str) -> Counter[tuple[str, ...]]:
    words = _WORD.findall(text)
    return Counter(tuple(words[start : start + 4]) for start in range(max(1, len(words) - 3)) if words)


def _gold(root: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Page's path -> what is known of it, of both sets."""
    articles = json.loads(gzip.decompress((root / "scrapinghub" / "ground-truth.json.gz").read_bytes()))
    strings = json.loads(gzip.decompress((root / "trafilatura" / "evaldata.json.gz").read_bytes()))
    first = {str(root / "scrapinghub" / f"{name}.html.gz"): page for name, page in articles.items()}
    return first, {str(root / "trafilatura" / name): page for name, page in strings.items()}


def _pages(gold: Mapping[str, Any]) -> dict[str, str]:
    """The markup of each page, as ``html_pages`` reads it."""
    from lmgraft_web.html_pages import HtmlPages
    from lmgraft_web.plugin import HtmlPagesConfig

    found = {}
    for path in gold:
        source = HtmlPages(HtmlPagesConfig(path=path))
        (document,) = source.read(source.units()[0], 0)
        found[path] = document.text
    return found


def _extracted(folder: Path, pages: Mapping[str, str], runs: int) -> dict[str, dict[str, Any]]:
    """Texts and times of each side, taken in turn."""
    # -P: the standard library has an "html" too, and the script lies beside this module.
    script, given, out = Path(__file__).with_name("_html_pages.py"), folder / "pages.json", folder / "out.json"
    given.write_text(json.dumps(pages), encoding="utf-8")
    found: dict[str, dict[str, Any]] = {side: {"seconds": [], "texts": {}} for side in SIDES}
    pythons = {side: sys.executable if side.startswith("html_text") else peer_python("html") for side in SIDES}
    for _ in range(runs):
        for side in SIDES:
            subprocess.run([pythons[side], "-P", script, side, given, out], check=True)
            answer = json.loads(out.read_text(encoding="utf-8"))
            found[side]["seconds"].append(answer["seconds"])
            found[side]["texts"] = answer["texts"]
    return found


def _unequal(sides: Mapping[str, Any], ours: str, theirs: str) -> list[str]:
    first, second = sides[ours]["texts"], sides[theirs]["texts"]
    return [Path(name).name for name in first if first[name] != second[name]]


def _table(scores: Mapping[str, Any], articles: int, strings: int, runs: int) -> str:
    lines = [
        f"{articles} pages with their article (F1 of shingles), {strings} pages with strings that must and must not be "
        f"there. Medians of {runs} runs on {machine()}. Our texts equal those of the library's own call with our "
        "options on every page.",
        "",
        "| side | articles: precision | recall | F1 | strings: precision | recall | F1 | pages per second |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for side, found in scores.items():
        numbers = " | ".join(f"{number:.3f}" for number in (*found["articles"], *found["strings"]))
        lines.append(f"| {side} | {numbers} | {found['pages_per_second']:.0f} |")
    return "\n".join(lines)
