"""Texts as counts of hashed n-grams of words and of characters, a whole batch at a time in numpy.

The hashing trick (Weinberger et al. 2009, arXiv:0902.2206): an n-gram's feature is its hash, so that there is no
vocabulary to keep. What a text gives depends on nothing else in its batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Counts", "counted"]

WORDS = (1, 2)
CHARACTERS = (3, 4, 5)
#: Characters that are hashed at a time: what bounds the memory.
CHUNK = 1 << 18
#: Odd, so that multiplying loses nothing modulo 2**64; from the golden ratio and splitmix64 (Steele et al. 2014).
STEP, SPREAD = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)

Hashes = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Counts:
    """A sparse matrix in coordinates, ascending by row and then by feature."""

    rows: Numbers
    features: Numbers
    counts: Numbers
    shape: tuple[int, int]
    """Texts and features."""

    def matrix(self, values: npt.NDArray[np.float64]) -> Any:
        """SciPy's form of it with ``values`` in place of the counts; needs what scikit-learn brings."""
        from scipy.sparse import csr_matrix

        starts = np.searchsorted(self.rows, np.arange(self.shape[0] + 1))
        return csr_matrix((values, self.features, starts), shape=self.shape)


def counted(texts: Sequence[str], width: int) -> Counts:
    """How often each feature, of ``width`` (a power of two), occurs in each text.

    Case and runs of white space are folded. Words are runs of letters, digits and apostrophes; n-grams of characters
    go across words.
    """
    bits = width.bit_length() - 1
    parts, first = [], 0
    for batch in _chunks(texts):
        owners, hashes = _hashes(batch)
        buckets = ((hashes * SPREAD) >> np.uint64(64 - bits)).astype(np.int64)
        keys, counts = np.unique(((owners + first) << bits) | buckets, return_counts=True)
        parts.append((keys >> bits, keys & (width - 1), counts.astype(np.int64)))
        first += len(batch)
    nothing = (np.zeros(0, np.int64),) * 3
    rows, features, counts = (np.concatenate(columns) for columns in zip(*parts or [nothing], strict=True))
    return Counts(rows, features, counts, (len(texts), width))


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    batch, size = [], 0
    for text in texts:
        # Each text begins and ends with a blank: n-grams know where it begins, and none goes from one into the next.
        batch.append(f" {' '.join(text.lower().split())} ")
        size += len(batch[-1])
        if size >= CHUNK:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _hashes(batch: Sequence[str]) -> tuple[Numbers, Hashes]:
    """The text and the hash of every n-gram."""
    data = "".join(batch).encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(data, dtype="<u4").astype(np.uint64)
    owner = np.repeat(np.arange(len(batch)), [len(text) for text in batch])
    found = [_characters(codes, owner, n) for n in CHARACTERS] + _words(codes, owner)
    owners, hashes = zip(*found, strict=True)
    return np.concatenate(owners), np.concatenate(hashes)


def _characters(codes: Hashes, owner: Numbers, n: int) -> tuple[Numbers, Hashes]:
    total = max(len(codes) - n + 1, 0)
    hashes = np.full(total, n, dtype=np.uint64)
    for place in range(n):
        hashes = _next(hashes, codes[place : place + total])
    whole = owner[:total] == owner[n - 1 : n - 1 + total]
    return owner[:total][whole], hashes[whole]


def _words(codes: Hashes, owner: Numbers) -> list[tuple[Numbers, Hashes]]:
    inside = _is_word()[np.minimum(codes, 0xFFFF).astype(np.int64)]
    edges = np.flatnonzero(np.diff(inside.astype(np.int8), prepend=0, append=0))
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return [(owner[:0], codes[:0])]
    lengths = ends - starts
    letters = codes[inside]
    firsts = np.cumsum(lengths) - lengths
    # A polynomial over the word's characters, from its first on.
    powers = np.multiply.accumulate(np.full(int(lengths.max()), STEP, dtype=np.uint64))
    places = np.arange(len(letters)) - np.repeat(firsts, lengths)
    words = np.add.reduceat((letters + np.uint64(1)) * powers[places], firsts)
    owners = owner[starts]
    found = []
    for n in WORDS:
        total = max(len(words) - n + 1, 0)
        hashes = np.full(total, 16 + n, dtype=np.uint64)
        for place in range(n):
            hashes = _next(hashes, words[place : place + total])
        whole = owners[:total] == owners[n - 1 : n - 1 + total]
        found.append((owners[:total][whole], hashes[whole]))
    return found


def _next(hashes: Hashes, more: Hashes) -> Hashes:
    mixed = (hashes ^ more) * STEP
    return mixed ^ (mixed >> np.uint64(29))


@lru_cache(maxsize=1)
def _is_word() -> npt.NDArray[np.bool_]:
    """Of the first 65,535 code points; the last entry stands for all others."""
    table = np.array([chr(code).isalnum() or code == ord("'") for code in range(0x10000)])
    table[0xFFFF] = True
    return table
