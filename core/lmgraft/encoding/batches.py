"""Text of a corpus in batches: Arrow's own buffers, cut into pieces of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lmgraft.artifacts import corpus
from lmgraft.artifacts._pieces import LONGEST_WHOLE, Cutter
from lmgraft.errors import Problem, UserError

__all__ = ["PIECE_BYTES", "TextBatch", "TextReader", "document_id"]

#: Bytes of a document that are encoded in one piece; where it is longer, it is cut after so many.
PIECE_BYTES = 1 << 20

#: Bytes of text that are read from a row group at a time.
READ_BYTES = 16 << 20

_WINDOW = 1 << 16


@dataclass(frozen=True)
class TextBatch:
    """UTF-8 text of several documents, or several pieces of one."""

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    """(n + 1,) Where documents (or pieces) begin in ``data``, and where the last ends."""
    first: int
    """The number, within its split, of the first document."""
    joined: bool = False
    """All are pieces of one document."""
    last: bool = True
    """The last one ends its document."""
    dropped: int = 0
    """Spaces between pieces that the tokenizer puts in by itself; they count as text."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def _held(self) -> NDArray[np.uint8]:
        return self.data[self.offsets[0] : self.offsets[-1]]

    @property
    def documents(self) -> int:
        """Documents that end in it."""
        return int(self.last) if self.joined else len(self)

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of text."""
        return len(self._held) + self.dropped

    @property
    def characters(self) -> int:
        """Code points: bytes that do not go on with one (10xxxxxx, below -64 as int8)."""
        return int(np.count_nonzero(self._held.view(np.int8) >= -64)) + self.dropped

    def spans(self, numbers: NDArray[np.int64]) -> list[list[int]]:
        """Where these documents (or pieces) begin and end in ``data``."""
        spans: list[list[int]] = np.stack([self.offsets[numbers], self.offsets[numbers + 1]], axis=1).tolist()
        return spans

    def strings(self) -> list[str]:
        """Each document or piece as Python's own string."""
        buffers = [None, pa.py_buffer(np.ascontiguousarray(self.offsets)), pa.py_buffer(self.data)]
        texts: list[str] = pa.Array.from_buffers(pa.large_string(), len(self), buffers).to_pylist()
        return texts


class TextReader:
    """The text of one split, from its document number ``skip`` on.

    :raises UserError: a document without text; one with a stretch of :data:`~lmgraft.artifacts._pieces.LONGEST` bytes
        and no place to cut; one of :data:`~lmgraft.artifacts._pieces.LONGEST_WHOLE` for a tokenizer without a cutter.
    """

    def __init__(self, folder: Path, split: str, cutter: Cutter | None, batch_bytes: int, skip: int = 0) -> None:
        self._folder = folder
        self._split = split
        self._cutter = cutter
        self._size = batch_bytes
        self._skip = skip
        self._margin = 64 + 4 * max(map(len, cutter.avoided if cutter else ()), default=0)

    def __iter__(self) -> Iterator[TextBatch]:
        first = 0
        for shard in corpus.shards(self._folder, self._split):
            with pq.ParquetFile(shard) as file:
                for group in range(file.metadata.num_row_groups):
                    rows = file.metadata.row_group(group).num_rows
                    if rows and first + rows > self._skip:
                        yield from self._group(file, group, first)
                    first += rows

    def _group(self, file: pq.ParquetFile, group: int, first: int) -> Iterator[TextBatch]:
        if "text" not in file.schema_arrow.names:
            raise UserError(self._no_text(first))
        facts = file.metadata.row_group(group)
        sizes = [facts.column(n) for n in range(facts.num_columns) if facts.column(n).path_in_schema == "text"]
        whole = sizes[0].total_uncompressed_size if sizes else facts.total_byte_size
        rows = max(1, min(facts.num_rows, int(READ_BYTES * facts.num_rows / max(whole, 1))))
        for batch in file.iter_batches(batch_size=rows, row_groups=[group], columns=["text"], use_threads=False):
            skipped = min(max(self._skip - first, 0), batch.num_rows)
            if skipped < batch.num_rows:
                yield from self._batch(batch.column(0).slice(skipped), first + skipped)
            first += batch.num_rows

    def _batch(self, column: pa.Array, first: int) -> Iterator[TextBatch]:
        if column.null_count:
            raise UserError(self._no_text(first + int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))))
        data, offsets = _buffers(column)
        long = np.flatnonzero(np.diff(offsets) > PIECE_BYTES)
        start = 0
        for row in [*long.tolist(), len(column)]:
            yield from self._short(data, offsets[start : row + 1], first + start)
            if row < len(column):
                yield from self._long(data[offsets[row] : offsets[row + 1]], first + row)
            start = row + 1

    def _short(self, data: NDArray[np.uint8], offsets: NDArray[np.int64], first: int) -> Iterator[TextBatch]:
        start, end = 0, len(offsets) - 1
        while start < end:
            stop = int(np.searchsorted(offsets, offsets[start] + self._size, side="right")) - 1
            stop = min(max(stop, start + 1), end)
            yield TextBatch(data, offsets[start : stop + 1], first + start)
            start = stop

    def _long(self, data: NDArray[np.uint8], document: int) -> Iterator[TextBatch]:
        """One long document: its pieces, so many in a batch as make its size."""
        if self._cutter is None:
            if len(data) > LONGEST_WHOLE:
                raise UserError(self._too_long(document, len(data)))
            yield TextBatch(data, np.array([0, len(data)], np.int64), document)
            return
        dropped = self._cutter.dropped
        spans: list[tuple[int, int]] = []
        start, end = 0, len(data)
        while start <= end:
            place = self._place(data, start + PIECE_BYTES, document)
            spans.append((start, end if place is None else place))
            start = end + 1 if place is None else place + dropped
            if start > end or start - spans[0][0] >= self._size:
                yield _pieces(data, spans, document, last=start > end, dropped=dropped)
                spans = []

    def _place(self, data: NDArray[np.uint8], start: int, document: int) -> int | None:
        """The first place from byte ``start`` on at which the document may be cut; None where it ends before one."""
        assert self._cutter is not None
        stop = min(len(data), start + self._cutter.longest)
        while start < stop:
            begin = _aligned(data, max(0, start - self._margin))
            middle, end = _aligned(data, start), _aligned(data, min(len(data), start + _WINDOW))
            reach = _aligned(data, min(len(data), end + self._margin))
            spans = ((begin, middle), (middle, end), (end, reach))
            before, inner, after = (data[a:b].tobytes().decode() for a, b in spans)
            found = self._cutter.find(before + inner + after, len(before), len(before) + len(inner))
            if found is not None:
                return middle + len(inner[: found - len(before)].encode())
            start = end if end > start else len(data)
        if stop < len(data):
            raise UserError(self._too_long(document, self._cutter.longest))
        return None

    def _no_text(self, document: int) -> Problem:
        name = document_id(self._folder, self._split, document)
        fact = f"document {name!r} of split {self._split} has no text"
        cause = "packed tokens are plain documents for pretraining; this one is a conversation or a pair"
        remedy = "give the stage an objective (sft, dpo), which encodes rows, or train on this corpus directly with one"
        return Problem(fact, cause, remedy)

    def _too_long(self, document: int, size: int) -> Problem:
        name = document_id(self._folder, self._split, document)
        if self._cutter is None:
            fact = f"document {name!r} of split {self._split} has {size:,} bytes"
            cause = (
                f"no place is known at which this tokenizer's text may be cut; whole, {LONGEST_WHOLE:,} are the most"
            )
            return Problem(fact, cause, "keep it out with the filter length (max_chars), or cut it in the source")
        fact = f"document {name!r} of split {self._split} has a word of more than {size:,} bytes"
        cause = "no token border is sure within it, and one word of any length takes memory and time without a bound"
        return Problem(fact, cause, "keep it out with a filter: c4 drops lines with a word over its max_word_length")


def document_id(folder: Path, split: str, number: int) -> str:
    """The id of a split's document by its number, for messages."""
    for shard in corpus.shards(folder, split):
        with pq.ParquetFile(shard) as file:
            if number >= file.metadata.num_rows:
                number -= file.metadata.num_rows
                continue
            for batch in file.iter_batches(batch_size=4096, columns=["id"], use_threads=False):
                if number < batch.num_rows:
                    return str(batch.column(0)[number].as_py())
                number -= batch.num_rows
    raise IndexError(f"{folder} has no document {number} in {split}")


def _buffers(column: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The bytes of a column of text, as they lie, and int64 offsets into them."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        column = column.cast(pa.large_string())
    kind: Any = np.int64 if pa.types.is_large_string(column.type) else np.int32
    _, offsets, data = column.buffers()
    found = np.frombuffer(offsets, kind)[column.offset : column.offset + len(column) + 1]
    held = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return held, found.astype(np.int64)


def _aligned(data: NDArray[np.uint8], place: int) -> int:
    """``place``, or the beginning of the character that it lies in."""
    while 0 < place < len(data) and data[place] & 0xC0 == 0x80:
        place -= 1
    return place


def _pieces(
    data: NDArray[np.uint8], spans: list[tuple[int, int]], document: int, *, last: bool, dropped: int
) -> TextBatch:
    offsets = np.cumsum([0, *(stop - start for start, stop in spans)]).astype(np.int64)
    held = [data[start:stop] for start, stop in spans] if dropped else [data[spans[0][0] : spans[-1][1]]]
    between = dropped * (len(spans) - last)
    return TextBatch(
        np.concatenate(held) if dropped else held[0], offsets, document, joined=True, last=last, dropped=between
    )
