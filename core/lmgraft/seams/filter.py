"""Seam ``filter``: what keeps, rewrites or drops documents.

A filter is *row-wise* (``judge``: one document decides) or *corpus-wise* (``sketch`` and ``resolve``: the others
matter, as in deduplication). Core calls filters in the recipe's order and counts every verdict in the funnel.

Rules
- ``judge`` returns one verdict for each document, in order; neither batch size nor the number of workers matters.
- A drop gives a reason, a short stable word: it is a key of the funnel.
- Corpus-wise: ``sketch`` yields one row or more for each document it wants to see again, with the columns of
  ``schema()`` and the int64 column ``position`` copied from the batch. Core spools the rows to disk and sorts them by
  ``order()`` in bounded memory; ``resolve`` yields ``(position, verdict)`` for the documents that are not kept whole,
  in any order. Documents that it does not name are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
    reason: str = ""
    """Why it was dropped or rewritten: a short stable word such as ``too_short``."""
    text: str | None = None
    """The text that replaces the document's own."""
    cuts: tuple[tuple[int, int], ...] = ()
    """Spans ``[start, end)`` in characters, ascending and disjoint, that are cut out."""

    @classmethod
    def drop(cls, reason: str) -> Verdict:
        return cls(keep=False, reason=reason)

    @classmethod
    def rewrite(cls, text: str, reason: str) -> Verdict:
        return cls(text=text, reason=reason)


KEEP = Verdict()


@runtime_checkable
class RowFilter(Protocol):
    def judge(self, batch: Sequence[Document]) -> list[Verdict]:
        """One verdict for each document, in order."""
        ...


class SortedSpool(Protocol):
    """The sketches of a whole corpus, sorted, read in bounded memory."""

    rows: int

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Ascending by the filter's ``order()``; a batch ends anywhere."""
        ...


@runtime_checkable
class CorpusFilter(Protocol):
    def schema(self) -> pa.Schema:
        """The columns of a sketch; holds ``position: int64``."""
        ...

    def order(self) -> list[str]:
        """The columns to sort by, most significant first."""
        ...

    def sketch(self, batch: Sequence[Document], positions: Sequence[int]) -> pa.RecordBatch:
        """The rows of a batch; ``positions`` number the documents in corpus order."""
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


Filter = RowFilter | CorpusFilter
