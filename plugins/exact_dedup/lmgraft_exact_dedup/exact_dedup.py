"""Filter ``exact_dedup``: of documents with the same text, the first in corpus order stays.

A sketch is a 128-bit digest, so memory and disk hold 24 bytes a document whatever its length, and among 10^10 documents
two different ones share a digest with a probability of 10^-19.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import SortedSpool, Verdict

from lmgraft_exact_dedup.plugin import ExactDedupConfig, Normalise

__all__ = ["ExactDedup"]

DROP = Verdict.drop("exact_duplicate")


class ExactDedup:
    """Corpus-wise. The digest is BLAKE2b (RFC 7693) of the normalised text; for chats and pairs, of their JSON."""

    def __init__(self, config: ExactDedupConfig) -> None:
        self.config = config

    def schema(self) -> pa.Schema:
        """The digest as two integers: pyarrow sorts those fast, and binaries of fixed size in recent versions only."""
        return pa.schema([("high", pa.uint64()), ("low", pa.uint64()), ("position", pa.int64())])

    def order(self) -> list[str]:
        """Equal digests together, and the first document of each in front."""
        return ["high", "low", "position"]

    def sketch(self, batch: Sequence[Document], positions: Sequence[int]) -> pa.RecordBatch:
        digests = b"".join(self._digest(document) for document in batch)
        halves = np.frombuffer(digests, dtype=np.dtype(">u8")).astype(np.uint64).reshape(-1, 2)
        columns = [halves[:, 0], halves[:, 1], np.asarray(positions, dtype=np.int64)]
        return pa.record_batch([pa.array(column) for column in columns], schema=self.schema())

    def resolve(self, spool: SortedSpool, workdir: Path, memory_mb: int) -> Iterator[tuple[int, Verdict]]:
        """A drop for each row whose digest equals that of the row before it; memory holds one batch."""
        last: tuple[Any, Any] | None = None
        for batch in spool.batches():
            if not batch.num_rows:
                continue
            high, low, positions = (batch.column(name).to_numpy() for name in ("high", "low", "position"))
            repeated = np.empty(batch.num_rows, dtype=bool)
            repeated[0] = last is not None and (high[0], low[0]) == last
            repeated[1:] = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
            last = high[-1], low[-1]
            for position in positions[repeated].tolist():
                yield position, DROP

    def _digest(self, document: Document) -> bytes:
        if document.text is not None:
            text = self._even_out(document.text)
        else:
            fields = ("messages", "prompt", "chosen", "rejected")
            values = {field: self._even_out(getattr(document, field)) for field in fields}
            text = json.dumps(values, ensure_ascii=False, sort_keys=True, default=str)
        # A text may spell out the very JSON of a chat; ``person`` keeps the two kinds apart.
        person = b"rows" if document.text is None else b"text"
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, person=person).digest()

    def _even_out(self, value: Any) -> Any:
        """``value`` with every text in it normalised; keys and other values as they are."""
        if isinstance(value, str):
            if self.config.normalise is Normalise.none:
                return value
            text = " ".join(value.split())
            return text.casefold() if self.config.normalise is Normalise.whitespace_case else text
        if isinstance(value, Mapping):
            return {key: self._even_out(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._even_out(item) for item in value]
        return value
