"""Filters at work on a batch of documents, and what they did, counted."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lmgraft.errors import Fault
from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import KEEP, RowFilter, Verdict

__all__ = ["Sifted", "Tally", "rewritten", "sift", "sound"]

SAMPLE = 3
"""Dropped documents that a filter's funnel shows for each reason."""
REASONS = 12
"""Reasons of which it shows any."""
NOTED = 5
"""Documents that a filter says something of."""
CLIP = 300
"""Characters of each."""


@dataclass
class Tally:
    """One filter's part of the funnel. Kept documents include the rewritten ones."""

    name: str
    seen: int = 0
    rewritten: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    sample: list[dict[str, str]] = field(default_factory=list)
    """The first few of the dropped for each reason, and of the first few reasons, by position in the corpus."""
    counts: Counter[str] = field(default_factory=Counter)
    """What the verdicts counted, added up."""
    noted: list[dict[str, str]] = field(default_factory=list)
    """The first documents that a verdict says something of, by position in the corpus: ``id`` and ``note``."""

    @property
    def kept(self) -> int:
        return self.seen - self.dropped.total()

    def drop(self, reason: str, document: Document | Callable[[], Document]) -> None:
        """Counts a drop; a callable is asked for the document only where the sample still takes it."""
        reason = reason or "dropped"
        self.dropped[reason] += 1
        if self.dropped[reason] <= SAMPLE and self._shows(reason):
            document = document() if callable(document) else document
            self.sample.append({"id": document.id, "reason": reason, "text": _excerpt(document)})

    def _shows(self, reason: str) -> bool:
        """Whether the sample takes one more of a reason."""
        shown = Counter(row["reason"] for row in self.sample)
        return shown[reason] < SAMPLE and (reason in shown or len(shown) < REASONS)

    def remark(self, verdict: Verdict, name: str) -> None:
        """Takes in what a verdict counts and says of the document ``name``."""
        self.counts.update(verdict.counts)
        if verdict.note and len(self.noted) < NOTED:
            self.noted.append({"id": name, "note": verdict.note[:CLIP]})

    def add(self, other: Tally) -> None:
        """Takes in the counts of documents that come after those counted so far."""
        self.seen += other.seen
        self.rewritten += other.rewritten
        self.dropped.update(other.dropped)
        for row in other.sample:
            if self._shows(row["reason"]):
                self.sample.append(row)
        self.counts.update(other.counts)
        self.noted = [*self.noted, *other.noted][:NOTED]

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "seen": self.seen,
            "kept": self.kept,
            "rewritten": self.rewritten,
            "dropped": dict(sorted(self.dropped.items())),
            "sample": self.sample,
            "counts": dict(sorted(self.counts.items())),
            "noted": self.noted,
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Tally:
        return cls(
            row["name"],
            row["seen"],
            row["rewritten"],
            Counter(row["dropped"]),
            list(row["sample"]),
            Counter(row["counts"]),
            list(row["noted"]),
        )


def _excerpt(document: Document) -> str:
    if document.messages is not None:
        turns = (f"{message.get('role')}: {message.get('content') or ''}" for message in document.messages)
        return "\n".join(turns)[:CLIP]
    parts = (document.text, document.prompt, document.chosen, document.rejected)
    return "\n".join(part for part in parts if part is not None)[:CLIP]


@dataclass
class Sifted:
    """What filters leave of a batch."""

    rows: list[int]
    """The kept documents' places in the batch, ascending."""
    documents: list[Document]
    changed: set[int]
    """The places whose text was rewritten."""


def sift(
    documents: Sequence[Document], filters: Iterable[tuple[str, RowFilter]], tallies: Mapping[str, Tally]
) -> Sifted:
    """Passes a batch through row-wise filters in order, counting into ``tallies``.

    Raises :class:`Fault` where a filter breaks its promise (a verdict missing, a cut outside the text).
    """
    kept = Sifted(list(range(len(documents))), list(documents), set())
    for name, judge in filters:
        tally = tallies[name]
        tally.seen += len(kept.documents)
        if not kept.documents:
            continue
        verdicts = judge.judge(kept.documents)
        if len(verdicts) != len(kept.documents):
            raise Fault(f"filter {name!r} gave {len(verdicts)} verdicts for {len(kept.documents)} documents")
        if not all(verdict is KEEP for verdict in verdicts):
            kept = _apply(name, kept, verdicts, tally)
    return kept


def _apply(name: str, before: Sifted, verdicts: Sequence[Verdict], tally: Tally) -> Sifted:
    after = Sifted([], [], before.changed)
    for row, document, verdict in zip(before.rows, before.documents, verdicts, strict=True):
        if verdict is not KEEP:
            tally.remark(verdict, document.id)
        if not verdict.keep:
            tally.drop(verdict.reason, document)
            continue
        text = rewritten(name, document, verdict)
        if text is not None:
            tally.rewritten += 1
            after.changed.add(row)
            document = replace(document, text=text)
        after.rows.append(row)
        after.documents.append(document)
    return after


def rewritten(name: str, document: Document, verdict: Verdict) -> str | None:
    """The text that a verdict gives a document, or None where it stays as it is."""
    if verdict.text is None and not verdict.cuts:
        return None
    if document.text is None:
        raise Fault(f"filter {name!r} rewrites document {document.id!r}, which has messages or a pair and no text")
    if verdict.text is not None and verdict.cuts:
        raise Fault(f"filter {name!r} gives document {document.id!r} both another text and cuts; it may give one")
    text = _cut(name, document, verdict.cuts) if verdict.text is None else sound(verdict.text)
    return None if text == document.text else text


def _cut(name: str, document: Document, cuts: Sequence[tuple[int, int]]) -> str:
    text = document.text or ""
    bounds = [0, *itertools.chain.from_iterable(cuts), len(text)]
    if any(a > b for a, b in itertools.pairwise(bounds)):
        raise Fault(f"filter {name!r} cuts {cuts!r:.80} from document {document.id!r} of {len(text)} characters")
    return "".join(text[bounds[i] : bounds[i + 1]] for i in range(0, len(bounds), 2))


def sound(text: str) -> str:
    """Text that UTF-8 can hold: surrogate halves (JSON's ``\\ud83d``) are paired or become U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
