"""Which source each sample of a mixture comes from, and which of that source's samples it is: a closed form, a pure
function of (seed, global index), without state or memory.

Sources are the leaves of a balanced binary tree. Of the first n samples that reach a node, ``floor((n * a + o) / w)``
go to the left, where w is the weight below the node, a that of its left half, and o an offset below w that the seed
decides. That grows by 0 or 1 with each sample, since a is at most w, so the sample at place n goes left exactly where
it grows, and its place among those that do is the count before it. The right half takes the others.

A count is off its share of n by less than one sample at each node, so each source's share of *any* beginning of the
stream is exact to within the height of the tree, ceil(log2 k) samples of k sources, and that of any stretch of it (a
batch) to within twice that. (A greedy rule, as Megatron's ``build_blending_indices`` has it, comes as close and must
walk all samples before the one asked for.) After w samples, w the sum of whole-number weights, every source gave
exactly its weight.

Weights are fractions and nothing is rounded: 0.1 is one tenth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmgraft.errors import Fault

__all__ = ["Blend"]

Ints = NDArray[np.int64]
#: Python's own whole numbers, which do not overflow.
Wide = NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Node:
    left: _Node | int
    right: _Node | int
    """A source is a leaf."""
    part: int
    """The weight of the left half, and that of both."""
    whole: int
    offset: int

    def before(self, places: Any) -> Any:
        """Of the first ``places`` samples that reach this node, how many go to the left."""
        return (places * self.part + self.offset) // self.whole


class Blend:
    """Shares out the samples of a stream among sources by weight."""

    def __init__(self, weights: Sequence[int | float], seed: int) -> None:
        """``weights``: of each source, not negative, any sum but 0; a source of weight 0 gives nothing. A float counts
        as the decimal number that it is printed as.

        :raises Fault: there is no such weight: what a user sets is checked before.
        """
        exact = [Fraction(weight if isinstance(weight, int) else repr(float(weight))) for weight in weights]
        if not any(exact) or min(exact) < 0:
            raise Fault(f"a blend has weights that are not negative, and one above 0; these are {list(weights)}")
        scale = lcm(*(weight.denominator for weight in exact))
        self._weights = [int(weight * scale) for weight in exact]
        self._seed = seed
        self._root = self._tree([source for source, weight in enumerate(exact) if weight])

    @property
    def shares(self) -> list[float]:
        """Each source's share of the samples; together 1."""
        whole = sum(self._weights)
        return [weight / whole for weight in self._weights]

    def locate(self, indexes: Ints) -> tuple[Ints, Ints]:
        """For the samples at ``indexes`` (n,) of the stream: their sources (n,), and their numbers among the samples
        of that source, which count on through all its epochs (n,)."""
        sources, numbers = np.zeros_like(indexes), np.zeros_like(indexes)
        waiting: list[tuple[_Node | int, Ints, Wide]] = [
            (self._root, np.arange(len(indexes)), indexes.astype(object)),
        ]
        while waiting:
            node, rows, places = waiting.pop()
            if isinstance(node, int):
                sources[rows], numbers[rows] = node, places.astype(np.int64)
            elif len(rows):
                before = node.before(places)
                goes = (node.before(places + 1) > before).astype(bool)
                waiting.append((node.left, rows[goes], before[goes]))
                waiting.append((node.right, rows[~goes], (places - before)[~goes]))
        return sources, numbers

    def counts(self, samples: int) -> list[int]:
        """How many of the first ``samples`` come from each source."""
        found = [0] * len(self._weights)
        waiting: list[tuple[_Node | int, int]] = [(self._root, samples)]
        while waiting:
            node, count = waiting.pop()
            if isinstance(node, int):
                found[node] = count
            else:
                before = node.before(count)
                waiting += [(node.left, before), (node.right, count - before)]
        return found

    def _tree(self, sources: list[int]) -> _Node | int:
        if len(sources) == 1:
            return sources[0]
        half = len(sources) // 2
        left, right = sources[:half], sources[half:]
        part = sum(self._weights[source] for source in left)
        whole = part + sum(self._weights[source] for source in right)
        text = f"lmgraft blend {self._seed} {','.join(map(str, sources))}"
        digest = hashlib.blake2b(text.encode()).digest()
        return _Node(self._tree(left), self._tree(right), part, whole, int.from_bytes(digest, "little") % whole)
