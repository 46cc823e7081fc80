"""What a finished tokenizer makes of text: by source, by language, and beside the tokenizer that it was made from.

Files in the artifact, beside the tokenizer's own:

``measure.json``
    ``vocab_size``, ``split``, ``bytes``, ``tokens`` over all that was measured; ``sources`` and ``languages``, tables
    of the same counts; ``pieces`` of two bytes or more: the longest ones, those that the measured text never used, the
    most frequent ones; ``base`` where there is one: how the two vocabularies compare, what share of the text changed.
``look.json``
    A passage of every language of every source as tokens, with their places, for the report.
``changed.jsonl``
    With a base: every measured line that is encoded differently, with its tokens before and after. Pieces are
    written so that all of them can be read (:func:`lmgraft.tokenview.shown.visible`): a space is ``·``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from lmgraft.artifacts import corpus
from lmgraft.stages._tokenizer_sample import Row, fraction, rows, source_bytes
from lmgraft.stages._tokenizer_scripts import script
from lmgraft.tokenview.comparing import Comparison, is_kept
from lmgraft.tokenview.figures import Figures, blocks
from lmgraft.tokenview.view import View

__all__ = ["CHANGED", "LOOK", "MEASURE", "Measure", "measured_bytes"]

MEASURE, LOOK, CHANGED = "measure.json", "look.json", "changed.jsonl"

#: Characters of a passage in ``look.json``, and how many passages there are at most.
PASSAGE, PASSAGES = 600, 12
#: Pieces of each list in ``measure.json``.
LISTED = 40

Amount = Callable[[int], None]


@dataclass(slots=True)
class Share:
    """What changed against the base, of the documents, lines and bytes measured."""

    documents: int = 0
    lines: int = 0
    bytes: int = 0
    of_documents: int = 0
    of_lines: int = 0
    of_bytes: int = 0

    def add_line(self, size: int, changed: bool) -> None:
        self.of_lines += 1
        self.of_bytes += size
        self.lines += changed
        self.bytes += size * changed

    def row(self) -> dict[str, Any]:
        return {
            name: {
                "changed": getattr(self, name),
                "of": getattr(self, f"of_{name}"),
                "share": round(getattr(self, name) / max(1, getattr(self, f"of_{name}")), 6),
            }
            for name in ("documents", "lines", "bytes")
        }


@dataclass(slots=True)
class Group:
    """The counts of one source or one language."""

    splits: list[str] = field(default_factory=list)
    documents: int = 0
    lines: int = 0
    now: Figures = field(default_factory=Figures)
    before: Figures = field(default_factory=Figures)
    changed: Share = field(default_factory=Share)

    def row(self, base: bool) -> dict[str, Any]:
        row = {"split": ", ".join(self.splits), "documents": self.documents, "lines": self.lines} | self.now.row()
        if base:
            row["base"] = self.before.row()
            row["changed"] = self.changed.row()
        return row


def measured_bytes(folder: Path) -> dict[str, tuple[str, int]]:
    """Source -> (the split that it is measured on, how many bytes that has): held out text where there is some."""
    held_out = source_bytes(folder, "validation")
    trained = source_bytes(folder, "train")
    names = dict.fromkeys((*trained, *held_out))
    found = {name: ("validation", held_out[name]) if held_out.get(name) else ("train", trained[name]) for name in names}
    return {name: place for name, place in found.items() if place[1]}


class Measure:
    """Goes once over the splits of corpora, and writes what it found into the artifact."""

    def __init__(self, view: View, base: View | None, limit: int) -> None:
        """``limit``: bytes of each source that are measured, spread evenly over it."""
        self.view, self.base, self.limit = view, base, limit
        self.comparison = Comparison(base, view) if base is not None else None
        self.sources: dict[str, Group] = {}
        self.languages: dict[str, Group] = {}
        self.total = Group()
        self.used: NDArray[np.int64] = np.zeros(view.vocab_size, dtype=np.int64)
        self.look: dict[str, dict[str, dict[str, Any]]] = {}

    def run(self, folders: Sequence[Path], out: Path, advance: Amount) -> None:
        """``advance`` is called with bytes as they are measured."""
        with (out / CHANGED).open("w", encoding="utf-8", newline="\n") as changed:
            for folder in folders:
                places = measured_bytes(folder)
                for split in ("train", "validation"):
                    shares = {name: self.limit / size for name, (place, size) in places.items() if place == split}
                    if shares and split in corpus.splits(folder):
                        self._split(folder, split, shares, changed, advance)
        if self.base is None:
            (out / CHANGED).unlink()
        _write(out / MEASURE, self.told())
        _write(out / LOOK, {"passages": self._passages()}, indent=None)

    def _split(self, folder: Path, split: str, shares: Mapping[str, float], changed: IO[str], advance: Amount) -> None:
        numbers: dict[str, int] = {}
        for row in rows(folder, split, language=True):
            share = shares.get(row.source)
            if share is None:
                continue
            number = numbers[row.source] = numbers.get(row.source, -1) + 1
            taken = [found for found in _blocks(row) if share >= 1 or fraction(number, found.number) < share]
            if not taken and not number:  # chance may take nothing of a small source
                taken = list(_blocks(row))[:1]
            if taken:
                self._document(row, split, taken, changed, advance)

    def _document(self, row: Row, split: str, taken: list[_Block], changed: IO[str], advance: Amount) -> None:
        touched: list[Group] = []
        differs: set[int] = set()
        for block in taken:
            groups = self._groups(row, block.text)
            self._figures(block.text, groups)
            for group in groups:
                group.lines += block.lines
                if split not in group.splits:
                    group.splits.append(split)
                if not any(group is other for other in touched):
                    touched.append(group)
            if self.comparison is not None and self._compare(self.comparison, row, block, groups, changed):
                differs.update(id(group) for group in groups)
            self._passage(row, block.text)
            advance(len(block.text.encode()))
        for group in touched:
            group.documents += 1
            group.changed.of_documents += 1
            group.changed.documents += id(group) in differs

    def _groups(self, row: Row, text: str) -> tuple[Group, Group, Group]:
        language = row.language or script(text)
        return (
            self.sources.setdefault(row.source, Group()),
            self.languages.setdefault(language, Group()),
            self.total,
        )

    def _figures(self, text: str, groups: tuple[Group, ...]) -> None:
        ids = self.view.encode([text])[0]
        self.used += np.bincount(ids, minlength=len(self.used))
        old = self.base.encode([text])[0] if self.base is not None else None
        for group in groups:
            group.now.add(text, ids, self.view.unknown)
            if old is not None and self.base is not None:
                group.before.add(text, old, self.base.unknown)

    def _compare(
        self, comparison: Comparison, row: Row, block: _Block, groups: tuple[Group, ...], changed: IO[str]
    ) -> bool:
        """Counts the lines of a block that are encoded differently and writes them down; whether there are any."""
        lines = block.text.removesuffix("\n").split("\n")
        any_changed = False
        for place, (line, (old, new, same)) in enumerate(zip(lines, comparison.encode(lines), strict=True)):
            size = len(line.encode())
            for group in groups:
                group.changed.add_line(size, not same)
            if not same:
                told = {
                    "source": row.source,
                    "document": row.id,
                    "line": block.line + place,
                    "before": comparison.before.shown(old.tolist()),
                    "after": comparison.after.shown(new.tolist()),
                }
                changed.write(json.dumps(told, ensure_ascii=False) + "\n")
                any_changed = True
        return any_changed

    def _passage(self, row: Row, text: str) -> None:
        """The beginning of a block, for the page: one of every language of every source."""
        text = text[:PASSAGE]
        language = row.language or script(text)
        if not text.strip() or language in self.look.setdefault(row.source, {}):
            return
        self.look[row.source][language] = {
            "source": row.source,
            "language": language,
            "document": row.id,
            "text": text,
            "tokens": _tokens(self.view, text),
            **({"base": _tokens(self.base, text)} if self.base is not None else {}),
        }

    def _passages(self) -> list[dict[str, Any]]:
        """The first of each source, then the second of each, and so on."""
        own = [list(passages.values()) for passages in self.look.values()]
        turns = [passage for turn in zip_longest(*own) for passage in turn if passage is not None]
        return turns[:PASSAGES]

    def told(self) -> dict[str, Any]:
        """``measure.json``."""
        base = self.base is not None
        total = self.total.row(base)
        found: dict[str, Any] = {"vocab_size": self.view.vocab_size, **total, "measure_bytes": self.limit}
        found["sources"] = {name: group.row(base) for name, group in self.sources.items()}
        languages = sorted(self.languages.items(), key=lambda item: (-item[1].now.bytes, item[0]))
        found["languages"] = {name: group.row(base) for name, group in languages}
        found["pieces"] = self._pieces()
        if self.base is not None and self.comparison is not None:
            found["base"] = {
                **found["base"],
                "vocab_size": self.base.vocab_size,
                "kept": is_kept(self.base, self.view),
                "compared": self.comparison.compared,
            }
        return found

    def _pieces(self) -> dict[str, Any]:
        spelt = self.view.spelt
        kept_out = self.view.special
        own = [index for index, piece in enumerate(spelt) if len(piece) > 1 and index not in kept_out]
        longest = sorted(own, key=lambda index: (-len(spelt[index]), index))[:LISTED]
        unused = [index for index in own if not self.used[index]]
        top = np.argsort(-self.used, kind="stable")[:LISTED].tolist()
        return {
            "longest": self._listed(longest, lambda index: len(spelt[index])),
            "unused": len(unused),
            "of": len(own),
            "unused_first": self._listed(unused[:LISTED], lambda index: 0),
            "top": self._listed([index for index in top if self.used[index]], lambda index: int(self.used[index])),
        }

    def _listed(self, ids: list[int], number: Callable[[int], int]) -> list[list[Any]]:
        return [[index, shown, number(index)] for index, shown in zip(ids, self.view.shown(ids), strict=True)]


@dataclass(frozen=True, slots=True)
class _Block:
    """Some whole lines of a document."""

    number: int
    """Among the document's blocks."""
    line: int
    """Of its first line in the document, counted from 1; of a row of several texts they are counted on."""
    lines: int
    text: str


def _blocks(row: Row) -> Iterator[_Block]:
    number, line = 0, 1
    for text in row.texts:
        for block in blocks(text):
            ends = block.count("\n")
            yield _Block(number, line, ends + (not block.endswith("\n")), block)
            number, line = number + 1, line + ends
        line += bool(text) and not text.endswith("\n")


def _tokens(view: View, text: str) -> list[list[Any]]:
    """``[id, piece, start, stop]`` of each token; the kind follows where it is special or unknown."""
    return [
        [token.id, token.piece, token.start, token.stop, *([token.kind] if token.kind != "text" else ())]
        for token in view.cut(text)
    ]


def _write(path: Path, found: Mapping[str, Any], indent: int | None = 2) -> None:
    path.write_text(json.dumps(found, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
