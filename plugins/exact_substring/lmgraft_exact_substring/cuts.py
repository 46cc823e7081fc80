"""Repeated spans of bytes, sorted, to cuts in characters of each document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from lmgraft.spool import Spool

from lmgraft_exact_substring.repeats import Spans
from lmgraft_exact_substring.rolling import Bytes, Ints

__all__ = ["by_document", "in_characters"]

SCHEMA = pa.schema([(name, pa.int64()) for name in ("position", "start", "stop")])


def by_document(spans: Iterator[Spans], folder: Path, memory_mb: int) -> Iterator[tuple[int, Ints, Ints]]:
    """(position, starts, stops) of each document with spans: ascending, disjoint, not touching."""
    spool = Spool(folder, SCHEMA, memory_mb)
    for columns in spans:
        if len(columns[0]):
            order = np.lexsort((columns[1], columns[0]))
            merged = _merged(columns[0][order], columns[1][order], columns[2][order])
            spool.append(pa.record_batch([pa.array(column) for column in merged], schema=SCHEMA))
    empty = np.zeros(0, np.int64)
    held: Spans = (empty, empty, empty)
    for batch in spool.sort(["position", "start"]).batches():
        read = [batch.column(name).to_numpy() for name in SCHEMA.names]
        position, start, stop = (np.concatenate(pair) for pair in zip(held, read, strict=True))
        merged = _merged(position, start, stop)
        end = int(np.searchsorted(merged[0], merged[0][-1]))  # the last document may go on in the next batch
        yield from _each(merged[0][:end], merged[1][:end], merged[2][:end])
        held = merged[0][end:], merged[1][end:], merged[2][end:]
    yield from _each(*held)


def _merged(position: Ints, start: Ints, stop: Ints) -> Spans:
    """Spans ascending by position and start, those that overlap or touch made one."""
    changes = np.concatenate([[False], position[1:] != position[:-1]])
    lift = np.cumsum(changes) * (int(stop.max()) + 2 if len(stop) else 1)  # a document's spans lie above the last one's
    reach = np.maximum.accumulate(stop + lift)
    opened = np.ones(len(start), np.bool_)
    opened[1:] = (start + lift)[1:] > reach[:-1]
    first = np.flatnonzero(opened)
    last = np.append(first[1:], len(start)) - 1
    return position[first], start[first], (reach - lift)[last]


def _each(position: Ints, start: Ints, stop: Ints) -> Iterator[tuple[int, Ints, Ints]]:
    first = np.flatnonzero(np.concatenate([[True], position[1:] != position[:-1]])) if len(position) else position
    for low, high in zip(first.tolist(), np.append(first[1:], len(position)).tolist(), strict=False):
        yield int(position[low]), start[low:high], stop[low:high]


def in_characters(text: Bytes, starts: Ints, stops: Ints) -> tuple[list[tuple[int, int]], int]:
    """(spans in characters, characters of the text). A span that begins or ends inside a character leaves it whole."""
    opens = (text & 0xC0) != 0x80  # the first byte of a character
    count = np.concatenate([[0], np.cumsum(opens)])
    # Characters that begin before the place: at the start that is the first whole one, at the end a torn one less.
    low = count[starts]
    high = count[stops] - ~np.append(opens, True)[stops]
    pairs = zip(low.tolist(), high.tolist(), strict=True)
    return [(a, b) for a, b in pairs if a < b], int(count[-1])
