"""Filter ``minhash``: of documents that are nearly the same, the first in corpus order stays.

MinHash (Broder 1997, "On the resemblance and containment of documents") with banding (Leskovec, Rajaraman and Ullman,
Mining of Massive Datasets, section 3.4). A document is the set of its shingles; of ``bands * rows`` hash functions two
documents have the same minimum with a probability that is the Jaccard similarity s of their sets. Documents that agree
in all ``rows`` minima of one band at least are taken for duplicates: with the probability 1 - (1 - s^rows)^bands.

The defaults (word 5-grams, 14 bands of 8 rows) and the normalising are FineWeb's (Penedo et al. 2024,
arXiv:2406.17557, appendix E.1, and datatrove, which it was made with), and so is what follows from a match: matches
are not verified, they are joined to clusters, and one document of each cluster stays. Deviations: words are what
white space and punctuation separate, not what a tokenizer of the language says, and each character of a script without
spaces is one; a number is one 0 with all its thousands; the hash functions are two multiplications modulo 2^64
(Dietzfelbinger et al. 1997) of the mixed 64-bit shingle, with random bits flipped before them and the upper half folded
in between, in place of one linear function modulo 2^61 - 1; a document with fewer words than a shingle is a shingle,
where datatrove leaves it out. Not implemented: dedup against an index of an earlier run.

A band costs 16 bytes a document on disk while the stage works: a hash of its minima, and the position. Two bands that
differ share a hash in one of 2^64 cases: one false pair is to be expected among 400 million documents.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import SortedSpool, Verdict

from lmgraft_minhash.clusters import Clusters
from lmgraft_minhash.hashing import U64, Ints, draw, mixed
from lmgraft_minhash.plugin import MinhashConfig, Normalise, Scope, Shingles
from lmgraft_minhash.shingles import PIECE, Shingler

__all__ = ["Minhash"]

DROP = Verdict.drop("near_duplicate")


class Minhash:
    """Corpus-wise. Reason: ``near_duplicate``. The funnel counts ``clusters``.

    Of chats and pairs all contents together are the text. A document without any word has no near-duplicates.
    """

    def __init__(self, config: MinhashConfig) -> None:
        self.config = config
        chars, full = config.shingles is Shingles.chars, config.normalise is Normalise.full
        self._shingler = Shingler(config.ngram, chars, full)
        self._hashes = config.bands * config.rows
        self._factors = draw(config.seed, 1, self._hashes) | np.uint64(1)
        self._flips = draw(config.seed, 2, self._hashes)
        self._weights = draw(config.seed, 3, self._hashes).reshape(config.bands, config.rows, 1) | np.uint64(1)

    def schema(self) -> pa.Schema:
        """``key``: a hash of the band's number, its minima and the group within which documents are compared."""
        return pa.schema([("key", pa.uint64()), ("position", pa.int64())])

    def order(self) -> list[str]:
        """Equal keys together; their order does not matter."""
        return ["key"]

    def sketch(self, batch: Sequence[Document], positions: Sequence[int]) -> pa.RecordBatch:
        """A row for each band of each document that has a shingle."""
        texts = [_text(document) for document in batch]
        keys, filled = self._keys(texts)
        if self.config.scope is not Scope.corpus:
            groups = [self._group(document) for document in batch]
            keys ^= np.array(groups, np.uint64)[filled]
        rows = np.repeat(np.asarray(positions, np.int64)[filled], self.config.bands)
        return pa.record_batch([pa.array(keys.T.ravel()), pa.array(rows)], schema=self.schema())

    def resolve(self, spool: SortedSpool, workdir: Path, memory_mb: int) -> Iterator[tuple[int, Verdict]]:
        """A drop for each document but the first of its cluster, and a count for that one.

        Memory holds one batch; the clusters lie in ``workdir``, 16 bytes a document.
        """
        clusters = Clusters(workdir)
        key, position = np.zeros(0, np.uint64), np.zeros(0, np.int64)  # the last row's key and its first document
        for batch in spool.batches():
            if not batch.num_rows:
                continue
            keys = np.concatenate([key, batch.column("key").to_numpy()])
            positions = np.concatenate([position, batch.column("position").to_numpy()])
            again = np.flatnonzero(keys[1:] == keys[:-1]) + 1
            first = np.arange(len(keys))
            first[again] = 0
            first = np.maximum.accumulate(first)
            clusters.join(positions[first[again]], positions[again])
            key, position = keys[-1:], positions[first[-1:]]
        for dropped, _ in clusters.all():
            for place in dropped.tolist():
                yield place, DROP
        for roots, sizes in clusters.sizes():
            for root, size in zip(roots.tolist(), sizes.tolist(), strict=True):
                yield root, Verdict(counts={"clusters": 1}, note=f"the first of {size:,} near-duplicates")

    def _keys(self, texts: Sequence[str]) -> tuple[U64, Ints]:
        """(bands, N): the keys of the N texts that have shingles, and which these are."""
        minima: list[U64] = []
        filled: list[Ints] = []
        for start, stop in _runs(texts):
            if len(texts[start]) > PIECE:
                found, own = self._minima_of_one(texts[start]), np.zeros(1, np.int64)
            else:
                shingles, counts = self._shingler.of_many(texts[start:stop])
                own = np.flatnonzero(counts)
                found = self._minima(shingles, (np.cumsum(counts) - counts)[own])
            minima.append(found)
            filled.append(own[: found.shape[1]] + start)
        if not minima:
            return np.zeros((self.config.bands, 0), np.uint64), np.zeros(0, np.int64)
        every = np.concatenate(minima, axis=1).reshape(self.config.bands, self.config.rows, -1)
        return mixed((every * self._weights).sum(axis=1, dtype=np.uint64)), np.concatenate(filled)

    def _minima(self, shingles: U64, starts: Ints) -> U64:
        """(hashes, len(starts)): the minima of each hash over each document's run of shingles."""
        found = np.empty((self._hashes, len(starts)), np.uint64)
        if len(starts):
            hashed, high = np.empty_like(shingles), np.empty_like(shingles)
            for index in range(self._hashes):
                np.bitwise_xor(shingles, self._flips[index], out=hashed)
                np.multiply(hashed, self._factors[index], out=hashed)
                # One product alone leaves the functions of some seeds so alike that recall is off by 0.02.
                np.right_shift(hashed, np.uint64(32), out=high)
                np.bitwise_xor(hashed, high, out=hashed)
                np.multiply(hashed, self._factors[index - 1], out=hashed)
                np.minimum.reduceat(hashed, starts, out=found[index])
        return found

    def _minima_of_one(self, text: str) -> U64:
        """(hashes, 1), or (hashes, 0) where the text has no shingle."""
        found = np.empty((self._hashes, 0), np.uint64)
        for shingles in self._shingler.of_one(text):
            more = self._minima(shingles, np.zeros(1, np.int64))
            found = np.minimum(found, more) if found.size else more
        return found

    def _group(self, document: Document) -> int:
        if self.config.scope is Scope.source:
            name = document.id.partition("/")[0]
        else:
            name = json.dumps(document.meta.get(self.config.key), sort_keys=True, default=str)
        return int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _text(document: Document) -> str:
    if document.text is not None:
        return document.text
    parts = [str(message.get("content") or "") for message in document.messages or ()]
    return "\n".join([*parts, *(part for part in (document.prompt, document.chosen, document.rejected) if part)])


def _runs(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Runs of texts of PIECE characters in all at most; a longer text is a run by itself."""
    start = total = 0
    for index, text in enumerate(texts):
        if index > start and total + len(text) >= PIECE:
            yield start, index
            start, total = index, 0
        total += len(text) + 1
    if start < len(texts):
        yield start, len(texts)
