"""Compares the ids of gigatoken with the reference's: on awkward text, on a sample of the corpus, and while it is
encoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lmgraft.artifacts import corpus
from lmgraft.encoding.batches import TextBatch
from lmgraft.encoding.engines import Gigatoken, Ids, Reference

__all__ = ["AWKWARD", "Differs", "Excerpt", "Spot", "compare", "excerpts"]

#: What tokenizers are known to disagree on.
AWKWARD = (
    "",
    " ",
    "  two  spaces   three \n\n\n and\r\nlines\t\ttabs \u00a0\u2003\u3000 wide\u0085\x1c",
    "it's we'LL they've I'm he'D 'tis ''s 's'S \u2019s caf\u00e9's",
    "1 12 123 1234 12345678 3.14 1,000,000 \u0663\u0664 \u00bd \u2167 x2y3",
    "cafe\u0301 e\u0301\u0302 \u1e9b\u0323 \u212b \ufb01 \uff21\uff22 \u1112\u1161\u11ab \ud55c",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1f9\U0001f1f7 \u2764\ufe0f \U0001f44d\U0001f3fd",
    "漢字かな交じり文、句読点。\u3000全角（括弧）！",
    "Здравствуй, İstanbul! \u0130\u0131 ẞ ß ŉ \u01c6 αβγς \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "नमस्ते ประเทศไทย \u0e33 ខ្មែរ \u1780\u17d2",
    "\u200b\u200d\ufeff\u00ad\u202e\ufffd\ufffe\U0010ffff\x00\x01\x7f",
    "<|endoftext|><s></s><unk>[UNK][CLS]<0x0A>\u2581\u2581a\u2581 b",
    "a" * 300 + " " + "-" * 300 + " " * 300 + "!?" * 150 + "\n" * 300,
    "http://a.b/c?d=e&f=%20#g foo_bar fooBar __init__ C++ #!/bin/sh $x->y[0] == {};",
)

#: Bytes of a document that are compared: from its beginning.
EXCERPT_BYTES = 2048

#: The sample is a part of the text, so that it takes a small part of the time, within bounds.
SAMPLE_SHARE = 1 / 8192
SAMPLE_BYTES = (16 << 10, 1 << 20)

#: Row groups that the sample is spread over, the first and the last among them.
PLACES = 12


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The beginning of a document."""

    split: str
    document: int
    """Its number within the split; -1 for text that is none of the corpus."""
    text: str


Group = tuple[str, Path, int, int]
"""Split, shard, number of the row group in it, number of its first document in the split."""


class Differs(Exception):
    """gigatoken gives other ids than the reference."""

    def __init__(self, split: str, document: int, token: int) -> None:
        super().__init__(f"document {document} of {split} differs from token {token} on")
        self.split = split
        """Empty where it was no document of the corpus."""
        self.document = document
        self.token = token
        """The first one that is another."""


def compare(reference: Reference, engine: Gigatoken, found: Sequence[Excerpt]) -> None:
    """:raises Differs: at the first excerpt whose ids are others."""
    if found:
        texts = [excerpt.text for excerpt in found]
        _equal(engine.encode(_batch(texts)), reference.encode_texts(texts), found)


def excerpts(folder: Path, splits: Sequence[str], size: int) -> list[Excerpt]:
    """Beginnings of documents, spread over all splits, for a corpus with so many bytes of text.

    Heads of row groups, which are cheap to read, and the end of the last one. Documents without text are left out.
    """
    budget = min(max(int(size * SAMPLE_SHARE), SAMPLE_BYTES[0]), SAMPLE_BYTES[1])
    groups = [group for split in splits for group in _groups(folder, split)]
    if not groups:
        return []
    chosen = sorted({round(place) for place in np.linspace(0, len(groups) - 1, min(PLACES, len(groups)))})
    rows = max(1, budget // EXCERPT_BYTES // (len(chosen) + 1))
    found = [excerpt for place in chosen for excerpt in _head(groups[place], rows)]
    _, shard, group, _ = groups[-1]
    last = pq.read_metadata(shard).row_group(group)
    if rows < last.num_rows and last.total_byte_size <= 64 << 20:
        found += _head(groups[-1], last.num_rows)[-rows:]
    return found


class Spot:
    """Compares a short document, or the beginning of a long one, in every batch that is encoded."""

    def __init__(self, reference: Reference, engine: Gigatoken, split: str) -> None:
        self._reference = reference
        self._engine = engine
        self._split = split

    def check(self, batch: TextBatch, ids: Ids) -> None:
        """:raises Differs: where the ids are others."""
        flat, offsets = ids
        chosen = batch.first * 2_654_435_761 % (1 << 32) * len(batch) >> 32
        start, stop = batch.offsets[chosen : chosen + 2].tolist()
        text = _beginning(batch.data[start:stop].tobytes())
        excerpt = Excerpt(self._split, batch.first + (0 if batch.joined else chosen), text)
        if stop - start <= EXCERPT_BYTES:
            own: Ids = (
                flat[offsets[chosen] : offsets[chosen + 1]],
                np.array([0, offsets[chosen + 1] - offsets[chosen]]),
            )
            _equal(own, self._reference.encode_texts([text]), [excerpt])
        else:
            compare(self._reference, self._engine, [excerpt])


def _equal(ours: Ids, theirs: Ids, found: Sequence[Excerpt]) -> None:
    for number, excerpt in enumerate(found):
        a, b = (flat[offsets[number] : offsets[number + 1]].astype(np.int64) for flat, offsets in (ours, theirs))
        if len(a) == len(b) and (a == b).all():
            continue
        shorter = min(len(a), len(b))
        other = np.flatnonzero(a[:shorter] != b[:shorter])
        raise Differs(excerpt.split, excerpt.document, int(other[0]) if other.size else shorter)


def _batch(texts: Sequence[str]) -> TextBatch:
    encoded = [text.encode() for text in texts]
    offsets = np.cumsum([0, *map(len, encoded)]).astype(np.int64)
    return TextBatch(np.frombuffer(b"".join(encoded), np.uint8), offsets, 0)


def _beginning(data: bytes) -> str:
    return data[:EXCERPT_BYTES].decode(errors="ignore")


def _groups(folder: Path, split: str) -> Iterator[Group]:
    """Row groups that hold rows."""
    first = 0
    for shard in corpus.shards(folder, split):
        facts = pq.read_metadata(shard)
        if "text" not in facts.schema.to_arrow_schema().names:
            return
        for group in range(facts.num_row_groups):
            rows = facts.row_group(group).num_rows
            if rows:
                yield split, shard, group, first
            first += rows


def _head(place: Group, rows: int) -> list[Excerpt]:
    split, shard, group, first = place
    with pq.ParquetFile(shard) as file:
        column = next(file.iter_batches(rows, row_groups=[group], columns=["text"], use_threads=False)).column(0)
    column = column.cast(pa.large_string())
    texts = ((number, value.as_buffer()) for number, value in enumerate(column) if value.is_valid)
    return [
        Excerpt(split, first + number, _beginning(bytes(memoryview(held)[:EXCERPT_BYTES]))) for number, held in texts
    ]
