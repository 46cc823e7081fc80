"""Filter ``exact_substring``: spans that stood earlier in the corpus, byte for byte, are cut out.

ExactSubstr of Lee et al. 2021, "Deduplicating Training Data Makes Language Models Better", arXiv:2107.06499, section
4.1: every span of ``min_bytes`` bytes or more that occurs twice is a duplicate. The first occurrence in corpus order
stays and the later ones are cut; a document of which fewer than ``min_keep`` characters are left is dropped, as in
RefinedWeb (Penedo et al. 2023, arXiv:2306.01116). All such spans are found, and no others.

Deviations: the paper counts 50 tokens and finds them by a suffix array of the whole corpus; here it is 100 bytes, which
its code takes for 50 tokens of 2 bytes, and fingerprints that are spooled and sorted on disk
(:mod:`lmgraft_exact_substring.winnowing`). Within one document a span is repeated where it does not overlap its first
occurrence, so that of a run of one letter the first ``min_bytes`` stay. A cut never tears a character: up to 3 bytes at
an end may stay. Spans are compared by 64-bit hashes; one in 2^64 pairs is taken for equal and is not. Not implemented:
near-duplicate spans, and spans that are equal but for white space or case.

While the stage works, the texts lie on disk three times, and 40 bytes beside them for about every 26 bytes of text
(with the default ``min_bytes``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import SortedSpool, Verdict

from lmgraft_exact_substring.cuts import by_document, in_characters
from lmgraft_exact_substring.plugin import Action, ExactSubstringConfig
from lmgraft_exact_substring.repeats import Rows, find
from lmgraft_exact_substring.rolling import Ints
from lmgraft_exact_substring.store import TextsWriter
from lmgraft_exact_substring.winnowing import Winnow

__all__ = ["ExactSubstring"]

DROP = Verdict.drop("repeated")
BLOCK = 1 << 20
"""Bytes of text in a row: long texts take several."""
SCHEMA = pa.schema(
    [
        ("key", pa.uint64()),
        ("context", pa.uint64()),
        ("position", pa.int64()),
        ("offset", pa.int64()),
        ("text", pa.binary()),
    ]
)


class ExactSubstring:
    """Corpus-wise. Reason: ``repeated``. The funnel counts ``spans`` and ``cut_bytes`` of documents that stay.

    Looks at texts only: chats and pairs stay.
    """

    def __init__(self, config: ExactSubstringConfig) -> None:
        self.config = config
        self._winnow = Winnow(config.min_bytes)

    def schema(self) -> pa.Schema:
        """Rows of two kinds: pieces of text, with the key 0, and fingerprints, with other keys and no text."""
        return SCHEMA

    def order(self) -> list[str]:
        """Texts first, then fingerprints, equal ones together, the first in the corpus in front."""
        return ["key", "context", "position", "offset"]

    def sketch(self, batch: Sequence[Document], positions: Sequence[int]) -> pa.RecordBatch:
        """The texts that are long enough to repeat something, and their fingerprints."""
        texts = [(document.text or "").encode("utf-8", "surrogatepass") for document in batch]
        places = np.asarray(positions, np.int64)
        parts = [_text_rows(texts, places, self._winnow.least)]
        for found in self._winnow.of_many(texts):
            columns = [found.key, found.context, places[found.document], found.offset, _nothing(len(found.key))]
            parts.append(pa.record_batch([pa.array(column) for column in columns], schema=SCHEMA))
        rows = pa.Table.from_batches(parts, schema=SCHEMA).combine_chunks().to_batches()
        return rows[0] if rows else parts[0]

    def resolve(self, spool: SortedSpool, workdir: Path, memory_mb: int) -> Iterator[tuple[int, Verdict]]:
        """Cuts, or drops, by position. Texts and spans lie in ``workdir``; memory holds ``memory_mb`` or so."""
        batches = spool.batches()
        writer = TextsWriter(workdir)
        ahead: list[pa.RecordBatch] = []
        for batch in batches:
            texts = int(np.searchsorted(batch.column("key").to_numpy(), 1))
            rows = batch.slice(0, texts)
            for position, piece in zip(rows.column("position").to_pylist(), rows.column("text"), strict=True):
                writer.add(position, piece.as_buffer())
            if texts < batch.num_rows:
                ahead.append(batch.slice(texts))
                break
        store = writer.close()
        spans = find(_fingerprints(ahead, batches), store, self._winnow, memory_mb)
        for position, starts, stops in by_document(spans, workdir / "spans", memory_mb):
            if self.config.action is Action.drop:
                yield position, DROP
                continue
            cuts, length = in_characters(store.text(position), starts, stops)
            yield position, self._verdict(cuts, length, int((stops - starts).sum()))

    def _verdict(self, cuts: list[tuple[int, int]], length: int, size: int) -> Verdict:
        if length - sum(stop - start for start, stop in cuts) < self.config.min_keep:
            return DROP
        counts = {"spans": len(cuts), "cut_bytes": size}
        return Verdict(reason="repeated", cuts=tuple(cuts), counts=counts)


def _text_rows(texts: Sequence[bytes], places: Ints, least: int) -> pa.RecordBatch:
    rows = [
        (int(place), at, text[at : at + BLOCK])
        for place, text in zip(places, texts, strict=True)
        if len(text) >= least
        for at in range(0, len(text), BLOCK)
    ]
    zeros = np.zeros(len(rows), np.uint64)
    columns = [zeros, zeros, *([row[column] for row in rows] for column in range(3))]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.record_batch(arrays, schema=SCHEMA)


def _nothing(count: int) -> pa.Array:
    """``count`` empty texts, which take no memory to speak of."""
    return pa.array(np.full(count, b"", "S1"), pa.binary())


def _fingerprints(ahead: Sequence[pa.RecordBatch], batches: Iterator[pa.RecordBatch]) -> Iterator[Rows]:
    for some in (ahead, batches):
        for batch in some:
            if batch.num_rows:
                key, context, position, offset = (batch.column(name).to_numpy() for name in SCHEMA.names[:4])
                yield key, context, position, offset
