"""Seam ``filter``: what keeps, rewrites or drops documents.

A filter is *row-wise* (``judge``: one document decides) or *corpus-wise* (``sketch`` and ``resolve``: the others
matter, as in deduplication). Core calls filters in the recipe's order and counts every verdict in the funnel.

Rules
- ``judge`` returns one verdict for each document, in order; neither batch size nor the number of workers matters.
- A drop gives a reason, a short stable word: it is a key of the funnel. What is found in documents that stay (so many
  addresses, so many misspelt words) goes into ``counts``, and is added up there.
- Corpus-wise: ``sketch`` yields one row or more for each document it wants to see again, with the columns of
  ``schema()`` and the int64 column ``position`` copied from the batch. Core spools the rows to disk and sorts them by
  ``order()`` in bounded memory; ``resolve`` yields ``(position, verdict)`` for the documents that are not kept whole,
  in any order. Documents that it does not name are kept.
- Which of the two a filter is core sees by its methods. It is built anew in each worker process: nothing that it
  remembers of one batch may change a verdict of another.
- A filter that looks at a form that a document does not have (``text`` of a chat) keeps that document or says in its
  config's ``needs()`` that it wants another (``"columns:messages"``). Only ``text`` can be rewritten or cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from lmgraft.seams.data_source import Document

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["KEEP", "CorpusFilter", "Filter", "FittedFilter", "RowFilter", "SortedSpool", "Verdict"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happens to a document: kept, kept with other text, kept without some spans, or dropped."""

    keep: bool = True
    """False drops it."""
    reason: str = ""
    """Why it was dropped or rewritten: a short stable word such as ``too_short``."""
    text: str | None = None
    """The text that replaces the document's own."""
    cuts: tuple[tuple[int, int], ...] = ()
    """Spans ``[start, end)`` in characters, ascending and disjoint, that are cut out."""
    counts: Mapping[str, int] = field(default_factory=dict, hash=False)
    """What was found in the document, dropped or not, under a few stable words: ``{"email": 2}``. The funnel adds it
    up over the corpus."""
    note: str = ""
    """A line about a document that stays, for people; the funnel shows the first few: ``recieve -> receive``."""

    @classmethod
    def drop(cls, reason: str) -> Verdict:
        """Drops the document."""
        return cls(keep=False, reason=reason)

    @classmethod
    def rewrite(cls, text: str, reason: str) -> Verdict:
        """Keeps the document with ``text`` in place of its own."""
        return cls(text=text, reason=reason)


#: The verdict on a document that stays as it is.
KEEP = Verdict()


@runtime_checkable
class RowFilter(Protocol):
    """A part that judges each document by itself."""

    def judge(self, batch: Sequence[Document]) -> list[Verdict]:
        """One verdict for each document, in order."""
        ...


class SortedSpool(Protocol):
    """The sketches of a whole corpus, sorted, read in bounded memory."""

    rows: int
    """Rows in all."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Ascending by the filter's ``order()``; a batch ends anywhere."""
        ...


@runtime_checkable
class CorpusFilter(Protocol):
    """A part that judges documents beside all others of the corpus, in memory that does not grow with it."""

    def schema(self) -> pa.Schema:
        """The columns of a sketch; holds ``position: int64``."""
        ...

    def order(self) -> list[str]:
        """The columns to sort by, most significant first."""
        ...

    def sketch(self, batch: Sequence[Document], positions: Sequence[int]) -> pa.RecordBatch:
        """The rows of a batch; ``positions`` number the documents in corpus order, ascending. Columns and types are
        those of ``schema()``; no row at all for documents that it need not see again."""
        ...

    def resolve(self, spool: SortedSpool, workdir: Path, memory_mb: int) -> Iterator[tuple[int, Verdict]]:
        """Verdicts by position, for every document that is not kept whole. Scratch files go into ``workdir`` only."""
        ...


@runtime_checkable
class FittedFilter(Protocol):
    """Optional, on either kind: a filter that learns from other corpora first; the result is cached with the stage."""

    def inputs(self) -> Mapping[str, str]:
        """Role -> path of the rows to learn from (labelled rows, evaluation sets)."""
        ...

    def fit(self, inputs: Mapping[str, Iterator[Mapping[str, Any]]], workdir: Path) -> None:
        """Learns, and writes what it learnt to ``workdir``; called again on an existing ``workdir``, it loads."""
        ...


#: Either kind.
Filter = RowFilter | CorpusFilter
