"""The light half of ``decontaminate``: its settings and where its class lies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from lmgraft.component import Component, ComponentConfig, execution
from lmgraft.hookspecs import hookimpl

__all__ = ["Action", "DecontaminateConfig", "lmgraft_filter"]

#: A set's name is a key of the funnel.
NAME = re.compile(r"[a-z0-9][a-z0-9_]*")


class Action(Enum):
    drop = "drop"
    cut = "cut"


@dataclass
class DecontaminateConfig(ComponentConfig):
    """Which evaluation sets, what counts as overlap, and what becomes of a document that has some."""

    sets: dict[str, str] = execution(default_factory=dict)
    """Name -> file or folder of rows (JSONL, CSV, TSV, Parquet; gz or zst). A moved file is the same input: what it
    holds is part of the key, where it lies is not."""
    columns: dict[str, list[str]] = field(default_factory=dict)
    """Name of a set -> the columns whose text counts, whatever lists and mappings it lies in. Default: all columns."""
    ngram: int = 13
    """So many words in a row that an evaluation text and a document share make an overlap."""
    min_words: int = 8
    """An evaluation text shorter than ``ngram`` is looked for as a whole where it has so many words; shorter ones are
    not looked for."""
    action: Action = Action.drop
    """``drop`` a document with an overlap, or ``cut`` the overlap out of its text (chats and pairs are dropped)."""
    window: int = 200
    """Of ``cut``: so many characters on both sides go too."""
    min_piece: int = 200
    """Of ``cut``: pieces with fewer characters go too."""
    max_pieces: int = 10
    """Of ``cut``: a document that would fall into more pieces is dropped."""
    max_documents: int | None = None
    """An n-gram in more documents than this (GPT-3 took 10) is a common phrase and no overlap. Null sets no limit;
    a limit makes the filter corpus-wise: the documents wait on disk until all of them have been seen."""

    def check(self) -> Iterator[str]:
        if not self.sets:
            yield "sets is empty; it names the evaluation sets: {gsm8k: path/to/gsm8k_test.jsonl}"
        for name in self.sets:
            if not NAME.fullmatch(name):
                yield f"sets names {name!r}; a name has lower-case letters, digits and _: it is a key of the funnel"
        for name in sorted(self.columns.keys() - self.sets.keys()):
            yield f"columns names the set {name!r}, which sets does not have"
        if self.ngram < 2:
            yield f"ngram is {self.ngram}; an n-gram has two words at least"
        if not self.min_words >= 1:
            yield f"min_words is {self.min_words}; it must be at least 1"
        for name in ("window", "min_piece"):
            if getattr(self, name) < 0:
                yield f"{name} is {getattr(self, name)}; it counts characters and cannot be negative"
        for name in ("max_pieces", "max_documents"):
            value = getattr(self, name)
            if value is not None and value < 1:
                yield f"{name} is {value}; it must be at least 1"


@hookimpl
def lmgraft_filter() -> list[Component[Any]]:
    return [
        Component(
            name="decontaminate",
            target="lmgraft_decontaminate.decontaminate:decontaminate",
            config=DecontaminateConfig,
            summary="Drops or cuts what shares 13 words with an evaluation set",
        )
    ]
