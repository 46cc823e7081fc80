"""Which groups a corpus keeps and which it holds out, and how often a mixture takes a document: all that the seed
decides, by the order of hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

__all__ = ["BUCKETS", "DROPPED", "TRAIN", "VALIDATION", "Ints", "Quota", "Selection"]
__all__ += ["choose_held", "choose_limit", "hashes"]

BUCKETS = 1 << 16
DROPPED, TRAIN, VALIDATION = 0, 1, 2

Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Quota:
    """How often a mixture takes the training documents of a source: whole epochs, and a part of one more."""

    epochs: int
    below: int = 0
    """Documents whose 64-bit hash in the mixture's order lies below it are taken once more."""

    @property
    def most(self) -> int:
        """Copies of the document that is taken most often."""
        return self.epochs + (self.below > 0)


@dataclass(frozen=True)
class Selection:
    """What becomes of every group, decided by two independent hashes of its name: 65,536 buckets each."""

    seed: int
    limit: int = BUCKETS
    """Groups of the buckets below it are taken."""
    held: frozenset[int] = frozenset()
    """Buckets, of those taken, that are held out."""
    by_document: bool = False
    """Documents are held out one by one: for a corpus that is a single group."""
    quotas: Mapping[str, Quota] = field(default_factory=dict)
    """Source -> how often its training documents are taken; once where it has none."""
    mark: str = "~"
    """What stands between a document's id and the number of its copy: more tildes than any id of its own has there."""

    def order(self, rows: pa.RecordBatch) -> Ints:
        """Each row's place, 0 to 65,535, in the order in which ``max_bytes`` takes groups."""
        return (hashes(rows.column("group"), self.seed, "max_bytes") >> np.uint64(48)).astype(np.int64)

    def holdout(self, rows: pa.RecordBatch) -> Ints:
        """Each row's place in the order in which groups are held out."""
        names = rows.column("id" if self.by_document else "group")
        return (hashes(names, self.seed, "validation") >> np.uint64(48)).astype(np.int64)

    def fates(self, rows: pa.RecordBatch) -> np.ndarray[Any, np.dtype[np.int8]]:
        """``DROPPED``, ``TRAIN`` or ``VALIDATION`` for each row; reads the columns ``id`` and ``group``."""
        fates = np.full(rows.num_rows, TRAIN, np.int8)
        if self.held:
            fates[np.isin(self.holdout(rows), sorted(self.held))] = VALIDATION
        if self.limit < BUCKETS:
            fates[self.order(rows) >= self.limit] = DROPPED
        return fates

    def mixing(self, rows: pa.RecordBatch) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """Each row's place in the order in which a mixture takes the documents of a source."""
        return hashes(rows.column("id"), self.seed, "mixture")

    def rows(self, batch: pa.RecordBatch, fates: Any, split: int, source: str, epoch: int) -> Ints:
        """The rows that a split takes in an epoch, counted from 1; only what is trained on is ever taken again."""
        mine = fates == split
        if split != TRAIN or source not in self.quotas:
            return np.flatnonzero(mine & (epoch == 1))
        quota = self.quotas[source]
        if epoch > quota.most:
            return np.zeros(0, np.int64)
        if epoch > quota.epochs:
            mine &= self.mixing(batch) < np.uint64(quota.below)
        return np.flatnonzero(mine)


def hashes(groups: pa.Array, seed: int, purpose: str) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """64-bit BLAKE2b of ``"{seed}:{group}"`` for each row; ``purpose`` keeps two uses independent."""
    coded = groups.dictionary_encode()
    person = purpose.encode()
    distinct = [
        int.from_bytes(hashlib.blake2b(f"{seed}:{group}".encode(), digest_size=8, person=person).digest(), "big")
        for group in coded.dictionary.to_pylist()
    ]
    return np.asarray(distinct, np.uint64)[coded.indices.to_numpy()] if distinct else np.zeros(0, np.uint64)


def choose_limit(sizes: Ints, max_bytes: int) -> int:
    """The bucket below which groups are taken, given every bucket's bytes of text.

    Buckets are taken in order while all of them fit into ``max_bytes``; the one in which the limit falls is left out
    whole, so the limit is never exceeded and is missed by less than one bucket (1/65,536 of the corpus, or one group
    where groups are larger than that). Only where the first bucket with any text does not fit, that one is taken: a
    corpus is not empty.
    """
    fitting = int(np.searchsorted(np.cumsum(sizes), max_bytes, side="right"))
    filled = np.flatnonzero(sizes)
    return max(fitting, int(filled[0]) + 1) if len(filled) else fitting


def choose_held(sizes: Ints, wanted: int) -> frozenset[int] | None:
    """The buckets to hold out, at least ``wanted`` bytes together, or None where that leaves nothing to train on.

    Buckets are taken in order; one that would carry the share to twice ``wanted`` is passed over, so that one large
    group does not become the validation set of a small corpus. Where only such large ones are left, the smallest of
    them is held out alone.
    """
    filled = np.flatnonzero(sizes).tolist()
    if len(filled) < 2 or int(sizes.sum()) < 2 * wanted:
        return None
    held: list[int] = []
    passed: list[tuple[int, int]] = []
    total = 0
    for bucket in filled:
        size = int(sizes[bucket])
        if total + size >= 2 * wanted:
            passed.append((size, bucket))
            continue
        held.append(bucket)
        total += size
        if total >= wanted:
            return frozenset(held)
    return frozenset([min(passed)[1]])
