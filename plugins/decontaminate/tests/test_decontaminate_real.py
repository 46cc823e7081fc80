"""Real evaluation sets against real documents: planted rows are found, and clean documents stay."""

from __future__ import annotations

import os
import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from lmgraft.seams.data_source import Document
from lmgraft.stages._corpus_rows import rows
from lmgraft_decontaminate.decontaminate import decontaminate
from lmgraft_decontaminate.index import strings
from lmgraft_decontaminate.plugin import DecontaminateConfig

DATA = os.environ.get("LMGRAFT_TEST_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="LMGRAFT_TEST_DATA is not set")

SETS = (
    "gsm8k_test.jsonl.gz", "hellaswag_val.jsonl.gz", "mmlu.jsonl.gz", "arc_challenge.jsonl.gz", "arc_easy.jsonl.gz",
    "winogrande.jsonl.gz", "truthfulqa.csv.gz", "piqa.jsonl.gz", "boolq.jsonl.gz",
)  # fmt: skip
CORPUS = ("c4_demo.jsonl.gz", "fortunes_en.jsonl.gz", "debian_handbook_en.jsonl.gz", "us_inaugural.jsonl.gz")


def split(text: str) -> list[str]:
    return "".join(letter for letter in text.lower() if letter.isalnum() or letter.isspace()).split()


def runs(text: str, n: int = 13) -> set[tuple[str, ...]]:
    words = split(text)
    return set(zip(*(words[start:] for start in range(n)), strict=False))


@cache
def questions() -> dict[str, list[str]]:
    found = {}
    for name in SETS:
        texts = [text for row in rows(Path(DATA or "", "eval", name)) for text in strings(dict(row))]
        found[name.partition(".")[0]] = [text for text in texts if len(split(text)) >= 8]
    return found


@cache
def corpus() -> list[str]:
    return [row["text"] for name in CORPUS for row in rows(Path(DATA or "", "corpus", name))]


def fitted(folder: Path, **settings: Any) -> Any:
    sets = {name.partition(".")[0]: str(Path(DATA or "", "eval", name)) for name in SETS}
    part = decontaminate(DecontaminateConfig(sets=sets, **settings))
    part.fit({name: rows(Path(path)) for name, path in part.inputs().items()}, folder)
    return part


def test_every_planted_row_is_found_and_nothing_else_is_lost(tmp_path: Path) -> None:
    rng = random.Random(5)
    part = fitted(tmp_path)
    clean = [Document(str(number), text=text) for number, text in enumerate(corpus())]
    first = part.judge(clean)
    known = set().union(*(runs(text) for texts in questions().values() for text in texts))
    short = {tuple(split(text)) for texts in questions().values() for text in texts if len(split(text)) < 13}
    expected = [
        known.isdisjoint(runs(text)) and all(short.isdisjoint(runs(text, n)) for n in range(8, 13)) for text in corpus()
    ]
    assert [verdict.keep for verdict in first] == expected
    assert sum(expected) > 0.99 * len(expected)

    hosts = [document.text or "" for document, verdict in zip(clean, first, strict=True) if verdict.keep]
    for name, texts in questions().items():
        planted = []
        for number, text in enumerate(rng.sample(texts, 300)):
            host = rng.choice(hosts)
            place = rng.choice([0, len(host), *(i for i, letter in enumerate(host) if letter == " ")])
            shown = rng.choice((text, text.upper(), " ".join(text.split()), text.replace(", ", " , ")))
            planted.append(Document(str(number), text=f"{host[:place]} {shown} {host[place:]}"))
        found = part.judge(planted)
        assert [verdict.counts.get(name) for verdict in found] == [1] * 300
        assert not any(verdict.keep for verdict in found)
