"""Labelled rows for the bench ``classifiers``, made of real data: who wrote the labels is said beside each task."""

from __future__ import annotations

import ast
import csv
import gzip
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from html.parser import HTMLParser
from pathlib import Path

#: Of every five groups of rows, one is held out.
HELD_OUT = 5
PASSAGE = 500


@dataclass(frozen=True)
class Row:
    text: str
    wanted: bool
    group: str
    """Rows of one group (a page, a book, a post) are never on both sides."""

    @property
    def held_out(self) -> bool:
        return int.from_bytes(blake2b(self.group.encode(), digest_size=8).digest(), "big") % HELD_OUT == 0


def data() -> Path:
    folder = os.environ.get("LMGRAFT_TEST_DATA")
    if not folder:
        raise SystemExit("set LMGRAFT_TEST_DATA to the folder of real data: the labels are there")
    return Path(folder)


def tweets() -> Iterator[Row]:
    """Davidson et al. 2017: tweets that people labelled hate speech or offensive (wanted), or neither."""
    with _open("misc/hate_speech_labeled.csv.gz") as file:
        for number, row in enumerate(csv.DictReader(file)):
            yield Row(row["tweet"], row["class"] != "2", f"tweet {number}")


def sentences() -> Iterator[Row]:
    """SemEval 2021 task 5: sentences of posts, wanted where people marked a toxic span in them."""
    with _open("misc/toxic_spans.csv.gz") as file:
        for number, row in enumerate(csv.DictReader(file)):
            marked, text = set(ast.literal_eval(row["spans"])), row["text"]
            for match in re.finditer(r"[^.!?\n]+[.!?]*", text):
                if len(match[0].split()) > 2:
                    yield Row(match[0].strip(), not marked.isdisjoint(range(*match.span())), f"post {number}")


def pages() -> Iterator[Row]:
    """scrapinghub's benchmark: passages of news pages, wanted where they are of the article that people marked, beside
    menus, links, comments and the like of the same pages."""
    folder = data() / "html/scrapinghub"
    with gzip.open(folder / "ground-truth.json.gz", "rt", encoding="utf-8") as file:
        gold = {name: row["articleBody"] for name, row in json.load(file).items()}
    for name, article in gold.items():
        with gzip.open(folder / f"{name}.html.gz", "rt", encoding="utf-8", errors="replace") as file:
            blocks = _Blocks.of(file.read())
        known = _plain(article)
        rest = [block for block in blocks if _plain(block) not in known]
        for wanted, lines in ((True, article.split("\n")), (False, rest)):
            yield from (Row(text, wanted, name) for text in _passages(lines))


def sources() -> Iterator[Row]:
    """Edited texts (encyclopedia, handbooks, books, addresses; wanted) beside what the web is made of (C4, and all that
    stands on news pages). The label is where a passage comes from: nobody judged them one by one."""
    edited = ("debian_handbook_en", "debian_reference_en", "gutenberg_books", "us_inaugural")
    for name in edited:
        with _open(f"corpus/{name}.jsonl.gz") as file:
            for number, line in enumerate(file):
                text = json.loads(line)["text"]
                # A book is one document here and hundreds of passages: parts of it are groups.
                for part, at in enumerate(range(0, min(len(text), 300_000), 20_000)):
                    group = f"{name} {number} {part}"
                    passages = _passages(text[at : at + 20_000].split("\n"))
                    yield from (Row(passage, True, group) for passage in passages[:20])
    with _open("corpus/wiki_demo.txt.gz") as file:
        for number, line in enumerate(file):
            yield from (
                Row(text, True, f"wiki {number}") for text in _passages(re.split(r"(?<=\.)(?=[A-Z])", line))[:40]
            )
    with _open("corpus/c4_demo.jsonl.gz") as file:
        for number, line in enumerate(file):
            yield from (Row(text, False, f"c4 {number}") for text in _passages(json.loads(line)["text"].split("\n")))
    yield from (row for row in pages() if not row.wanted)


def _open(name: str) -> gzip.GzipFile:
    return gzip.open(data() / name, "rt", encoding="utf-8", newline="")  # type: ignore[return-value]


def _passages(lines: list[str]) -> list[str]:
    """Lines joined to passages of 500 characters or more."""
    found: list[str] = []
    passage = ""
    for line in lines:
        passage += line.strip() + "\n" if line.strip() else ""
        if len(passage) >= PASSAGE:
            found.append(passage[: 4 * PASSAGE].strip())
            passage = ""
    return [*found, passage.strip()] if len(passage) > PASSAGE // 5 else found


def _plain(text: str) -> str:
    return re.sub(r"\W+", " ", text).strip().lower()


class _Blocks(HTMLParser):
    """The texts of a page, one for each run without a block's border; scripts and styles apart."""

    INLINE = frozenset(
        ("a", "abbr", "b", "cite", "code", "em", "font", "i", "mark", "small", "span", "strong", "sub", "sup")
    )

    def __init__(self) -> None:
        super().__init__()
        self.blocks, self._parts, self._hidden = [], [], 0  # type: list[str], list[str], int

    @classmethod
    def of(cls, page: str) -> list[str]:
        parser = cls()
        parser.feed(page)
        parser.end()
        return parser.blocks

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in ("script", "style", "noscript", "template")
        if tag not in self.INLINE:
            self.end()

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style", "noscript", "template"):
            self._hidden = max(0, self._hidden - 1)
        if tag not in self.INLINE:
            self.end()

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._parts.append(data)

    def end(self) -> None:
        text = " ".join("".join(self._parts).split())
        self._parts = []
        if text:
            self.blocks.append(text)
