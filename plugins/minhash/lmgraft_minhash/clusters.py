"""Clusters of documents from pairs that are alike: a union-find forest on disk.

One 64-bit number a document, its parent's position; a root is its cluster's first document. The file is mapped into
memory, so that what the system cannot hold goes back to the disk: a billion documents take 8 GB there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lmgraft_minhash.hashing import Ints

__all__ = ["Clusters"]

CHUNK = 1 << 18


class Clusters:
    """All documents from 0 on, each alone at first. Lies in ``folder``, which belongs to it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "parents"
        self._path.write_bytes(b"")
        self._parents: np.ndarray[Any, np.dtype[np.int64]] = np.zeros(0, np.int64)

    def join(self, left: Ints, right: Ints) -> None:
        """Joins the clusters of ``left[i]`` and ``right[i]`` for each i."""
        if not len(left):
            return
        self._reach(1 + max(int(left.max()), int(right.max())))
        joined = left != right
        left, right = self._roots(left[joined]), self._roots(right[joined])
        roots, places = np.unique(np.concatenate([left, right]), return_inverse=True)
        lowest = _components(len(roots), places[: len(left)], places[len(left) :])
        self._parents[roots] = roots[lowest]

    def all(self) -> Iterator[tuple[Ints, Ints]]:
        """(positions, roots) of the documents that are not alone and not the first of their cluster, ascending."""
        for start in range(0, len(self._parents), CHUNK):
            positions = np.arange(start, min(start + CHUNK, len(self._parents)))
            positions = positions[self._parents[start : start + CHUNK] != positions]
            yield positions, self._roots(positions)

    def sizes(self) -> Iterator[tuple[Ints, Ints]]:
        """(roots, sizes) of the clusters of more than one document, ascending by root."""
        path = self._path.with_name("sizes")
        if not len(self._parents):
            return
        counts = np.memmap(path, np.int64, "w+", shape=self._parents.shape)
        for _, roots in self.all():
            unique, more = np.unique(roots, return_counts=True)
            counts[unique] += more
        for start in range(0, len(counts), CHUNK):
            part = counts[start : start + CHUNK]
            found = np.flatnonzero(part)
            yield found + start, part[found] + 1

    def _roots(self, positions: Ints) -> Ints:
        """Each one's root; shortens the ways there."""
        found = self._parents[positions]
        while True:
            above = self._parents[found]
            if np.array_equal(above, found):
                break
            found = above
        self._parents[positions] = found
        return np.asarray(found)

    def _reach(self, count: int) -> None:
        """Makes room for ``count`` documents; twice as many as before, so that it happens seldom."""
        size = len(self._parents)
        if count <= size:
            return
        grown = max(count, 2 * size, CHUNK)
        with self._path.open("r+b") as file:
            file.truncate(grown * 8)
        self._parents = np.memmap(self._path, np.int64, "r+", shape=(grown,))
        for start in range(size, grown, CHUNK):
            self._parents[start : start + CHUNK] = np.arange(start, min(start + CHUNK, grown))


def _components(count: int, left: npt.NDArray[np.intp], right: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """The lowest number in the component of each of ``count`` nodes: every root takes the lowest root beside it for
    its own, again and again (hooking and pointer jumping: Shiloach and Vishkin 1982)."""
    label = np.arange(count)
    while True:
        a, b = label[left], label[right]
        apart = a != b
        if not apart.any():
            return label
        left, right, a, b = left[apart], right[apart], a[apart], b[apart]
        np.minimum.at(label, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(label, further := label[label]):
            label = further
