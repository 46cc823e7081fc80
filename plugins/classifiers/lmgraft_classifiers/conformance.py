"""Holds ``toxicity`` and ``quality_classifier`` to the filters' contract, with each of their methods."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from lmgraft.seams.data_source import Document
from lmgraft.testing import FilterSuite
from lmgraft.testing.inputs import texts

__all__ = [
    "TestQuality",
    "TestQualityForest",
    "TestQualityOfChats",
    "TestQualityStatistics",
    "TestToxicityClassifier",
    "TestToxicityOfChats",
    "TestToxicityWords",
]

#: Words that make the difference in the rows made here; nobody need be offended to check a contract.
BAD = ("blorg", "grumpf", "you zonk", "zonkhead")


def write_rows(folder: Path, count: int = 400) -> Path:
    """Labelled rows: every other text holds a word of :data:`BAD`, and is labelled 1 for it."""
    path = folder / "labelled.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number, text in enumerate(texts(count, seed=5)):
            said = f"{text} {BAD[number // 2 % len(BAD)]}!" if number % 2 else text
            file.write(json.dumps({"text": said, "label": number % 2}) + "\n")
    return path


class _Shown(FilterSuite):
    def documents(self) -> list[Document]:
        found = super().documents()
        own = [f"{BAD[number % len(BAD)].upper()}. {text}" for number, text in enumerate(texts(20, seed=9))]
        return [*found, *(Document(id=f"own:{number}", text=text) for number, text in enumerate(own))]


class _Chats(FilterSuite):
    def documents(self) -> list[Document]:
        found = []
        for number, text in enumerate(texts(40, seed=9)):
            said = f"{text} {BAD[number % len(BAD)]}" if number % 2 else text
            turns = [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": said}]
            found.append(Document(id=f"own:{number}", messages=turns))
        return found


class TestToxicityWords(_Shown):
    """With a list of its own, a severity to each word."""

    component = "toxicity"

    def prepare(self) -> Mapping[str, Any]:
        rows = "".join(f"{word},{number}\n" for number, word in enumerate(BAD))
        (self.folder / "words.csv").write_text(f"text,severity_rating\n{rows}", encoding="utf-8")
        return {"words": str(self.folder / "words.csv"), "min_severity": 1.0, "min_share": 0.0}


class TestToxicityClassifier(_Shown):
    """Fitted, with a threshold for a precision."""

    component = "toxicity"
    settings: ClassVar[Mapping[str, Any]] = {"method": "classifier", "precision": 0.8}

    def prepare(self) -> Mapping[str, Any]:
        return {"labelled": str(write_rows(self.folder))}


class TestToxicityOfChats(_Chats):
    """By words, in chats."""

    component = "toxicity"
    settings: ClassVar[Mapping[str, Any]] = {"min_share": 0.0}

    def prepare(self) -> Mapping[str, Any]:
        (self.folder / "words.txt").write_text("\n".join(BAD), encoding="utf-8")
        return {"words": str(self.folder / "words.txt")}


class _Quality(_Shown):
    def prepare(self) -> Mapping[str, Any]:
        return {"labelled": str(write_rows(self.folder)), "good": ["0"]}


class TestQuality(_Quality):
    """Hashed n-grams and logistic regression."""

    component = "quality_classifier"


class TestQualityForest(_Quality):
    """Hashed n-grams and a forest, as phi-1 had."""

    component = "quality_classifier"
    settings: ClassVar[Mapping[str, Any]] = {"classifier": "forest", "trees": 8, "depth": 8, "width": 4096}


class TestQualityStatistics(_Quality):
    """Statistics and a forest: what they cannot tell they guess, but always in the same way."""

    component = "quality_classifier"
    settings: ClassVar[Mapping[str, Any]] = {"features": "statistics", "classifier": "forest", "trees": 8}


class TestQualityOfChats(_Chats):
    """Scores for labels; what is shown are chats."""

    component = "quality_classifier"
    settings: ClassVar[Mapping[str, Any]] = {"min_score": 1}

    def prepare(self) -> Mapping[str, Any]:
        return {"labelled": str(write_rows(self.folder))}
