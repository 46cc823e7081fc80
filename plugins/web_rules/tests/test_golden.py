"""Documents of our own, with what every filter says of them: agreed with datatrove 0.10.1 when they were stored.

A row holds the ``text``, the reason of each filter by itself (empty: it stays), the text that ``c4`` leaves where it
keeps a page (null: the same) and the lines that it counts.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from lmgraft.registry import build
from lmgraft.seams.data_source import Document
from lmgraft_web_rules.plugin import WordSplitter, lmgraft_filter

GOLDEN = Path(__file__).with_name("golden.jsonl")
SPLITTERS = [
    WordSplitter.fast,
    pytest.param(WordSplitter.spacy, marks=pytest.mark.skipif(find_spec("spacy") is None, reason="no spacy")),
]


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").split("\n") if line]


@pytest.mark.parametrize("words", SPLITTERS)
@pytest.mark.parametrize("name", [component.name for component in lmgraft_filter()])
def test_reasons(name: str, words: WordSplitter) -> None:
    (component,) = (one for one in lmgraft_filter() if one.name == name)
    golden = rows()
    batch = [Document(id=str(number), text=row["text"]) for number, row in enumerate(golden)]
    verdicts = build(component, component.config(words=words)).judge(batch)  # type: ignore[call-arg]
    assert ["" if verdict.keep else verdict.reason for verdict in verdicts] == [row["reasons"][name] for row in golden]
    if name == "c4":
        for verdict, row in zip(verdicts, golden, strict=True):
            counts = {key: count for key, count in verdict.counts.items() if key != "citation"}
            assert counts == row["lines"]
            assert not verdict.keep or verdict.text == row["c4"]


def test_every_reason_is_there() -> None:
    """Of those that a table of small documents can have."""
    found = {reason for row in rows() for reason in row["reasons"].values()}
    assert len(found) > 25
