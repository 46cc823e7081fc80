"""Puts the end token behind every document of a batch and gives all of it the file's type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lmgraft.encoding.batches import TextBatch
from lmgraft.encoding.engines import Ids

__all__ = ["Packed", "pack"]


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch as :meth:`lmgraft.artifacts.tokens.TokenWriter.add_packed` takes it, and what it was."""

    data: Any
    """A buffer of ids in the file's dtype."""
    lengths: NDArray[np.int64]
    """Tokens of each document that ends in it, with the end token."""
    open_tokens: int
    """Tokens behind the last end."""
    bytes: int
    characters: int


def pack(batch: TextBatch, ids: Ids, end_id: int, dtype: np.dtype[Any]) -> Packed:
    """All documents of the batch, each closed by the end token; a document that goes on later is left open."""
    flat, offsets = ids
    data = np.ascontiguousarray(flat.astype(dtype, copy=False))
    if batch.joined and not batch.last:
        return Packed(data.data, np.zeros(0, np.int64), len(data), batch.bytes, batch.characters)
    if batch.joined:
        offsets = offsets[[0, -1]]
    lengths = np.diff(offsets) + 1
    end = np.array([end_id], dtype=dtype)
    return Packed(_closed(data, offsets, end), lengths, 0, batch.bytes, batch.characters)


def _closed(data: NDArray[Any], offsets: NDArray[np.int64], end: NDArray[Any]) -> Any:
    """Arrow joins byte strings faster than numpy inserts: each document, the separator, and nothing behind it."""
    kind, size = pa.large_binary(), data.dtype.itemsize
    buffers = [None, pa.py_buffer(offsets * size), pa.py_buffer(data)]
    documents = pa.Array.from_buffers(kind, len(offsets) - 1, buffers)
    joined = pc.binary_join_element_wise(documents, pa.scalar(b"", kind), pa.scalar(end.tobytes(), kind))
    return joined.buffers()[2].slice(0, data.nbytes + len(joined) * size)
