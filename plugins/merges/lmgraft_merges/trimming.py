"""The largest magnitudes of a tensor that is too large for memory: which share of its numbers is kept.

The smallest magnitude that is kept is found from histograms of the numbers' bits. Those of positive float32 numbers are
in the numbers' own order, so counts of their upper halves tell in which range of 2^16 neighbours the limit lies, and
counts of the lower halves within that range tell the limit itself: two passes, and 65,536 counts of memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from lmgraft.artifacts.blocks import Blocks
    from numpy.typing import NDArray

__all__ = ["Shares", "Trim", "largest"]

#: Values of half of a float32's bits.
_HALF = 1 << 16
#: Sums of magnitudes below this are not divided by, as in mergekit.
_TINY = 1e-7

#: The changes of a block's sources, each of them trimmed by itself.
Changes = Callable[["list[NDArray[Any]]"], "list[NDArray[Any]]"]


class Shares(Protocol):
    """What is kept of each source's changes."""

    @property
    def densities(self) -> Sequence[float]:
        """Shares, 0 to 1."""
        ...

    @property
    def rescale(self) -> bool:
        """Give what is kept the sum of magnitudes of all."""
        ...


@dataclass(slots=True)
class Trim:
    """What is kept of one source's changes in one tensor."""

    limit: float | None = None
    """Magnitudes of at least this, as float32 tells them; None: all."""
    spare: Sequence[int] | None = None
    """Of each block, how many numbers of just the limit's magnitude are kept, the first ones; None: all of them."""
    factor: float = 1.0
    """What is left is multiplied by this."""

    def apply(self, change: NDArray[Any], number: int) -> None:
        """Sets to 0 what is not kept of block ``number``, in place."""
        if self.limit is None:
            return
        size = _magnitudes(change)
        kept = size >= np.float32(self.limit)
        if self.spare is not None:
            at = np.flatnonzero(size == np.float32(self.limit))
            kept[at[self.spare[number] :]] = False
        change *= kept
        if self.factor != 1:
            change *= change.dtype.type(self.factor)


def largest(blocks: Blocks, changes: Changes, shares: Shares) -> list[Trim]:
    """How each source's changes are trimmed: to ``max(1, int(density * elements))`` numbers, none where the density is
    0, all where it is 1."""
    wanted = [_wanted(density, blocks.elements) for density in shares.densities]
    found = [Trim(None if keep is None else np.inf) for keep in wanted]
    sought = {index: keep for index, keep in enumerate(wanted) if keep}
    if not sought:
        return found
    upper = _totals(blocks, changes, dict.fromkeys(sought))
    places = {index: _reach(upper[index], keep) for index, keep in sought.items()}
    lower = _totals(blocks, changes, {index: high for index, (high, _) in places.items()})
    missing: dict[int, int] = {}
    for index, (high, left) in places.items():
        low, left = _reach(lower[index], left)
        found[index].limit = float(np.uint32(high * _HALF + low).view(np.float32))
        if left < lower[index][low]:
            missing[index] = left
    if missing or shares.rescale:
        _finish(blocks, changes, found, missing, rescale=shares.rescale)
    return found


def _wanted(density: float, elements: int) -> int | None:
    """How many are kept; None: all."""
    if density >= 1:
        return None
    return max(1, int(density * elements)) if density > 0 and elements else 0


def _magnitudes(change: NDArray[Any]) -> NDArray[np.float32]:
    return np.abs(change.astype(np.float32, copy=False))


def _totals(blocks: Blocks, changes: Changes, within: dict[int, int | None]) -> dict[int, NDArray[np.int64]]:
    """Source -> how many magnitudes have each upper half of bits; or each lower half, of those with the upper half
    ``within``."""

    own: dict[int, dict[int, NDArray[np.int64]]] = {}  # of each thread: counts of every block would fill memory

    def look(number: int, sources: list[NDArray[Any]]) -> None:
        totals = own.setdefault(threading.get_ident(), {index: np.zeros(_HALF, np.int64) for index in within})
        changed = changes(sources)
        for index, high in within.items():
            totals[index] += _counts(changed[index], high)

    blocks.each(look)
    return {index: np.sum([totals[index] for totals in own.values()], axis=0) for index in within}


def _counts(change: NDArray[Any], high: int | None) -> NDArray[np.int64]:
    bits = _magnitudes(change).view(np.uint32)
    upper = bits >> 16
    if high is None:
        return np.bincount(upper.astype(np.int64), minlength=_HALF)
    chosen = bits[upper == high] & (_HALF - 1)
    return np.bincount(chosen.astype(np.int64), minlength=_HALF)


def _reach(counts: NDArray[np.int64], keep: int) -> tuple[int, int]:
    """The highest value down to which there are ``keep`` numbers, and how many of its own are among them."""
    down = np.cumsum(counts[::-1])
    steps = int(np.searchsorted(down, keep))
    above = int(down[steps - 1]) if steps else 0
    return _HALF - 1 - steps, keep - above


def _finish(blocks: Blocks, changes: Changes, trims: list[Trim], missing: dict[int, int], *, rescale: bool) -> None:
    """Deals what is kept of the limit's magnitude out to the blocks, and finds factors; one more pass."""

    def look(number: int, sources: list[NDArray[Any]]) -> list[tuple[int, float, float]]:
        found = []
        for change, trim in zip(changes(sources), trims, strict=True):
            size = _magnitudes(change)
            limit = np.float32(np.inf if trim.limit is None else trim.limit)
            above = float(np.add.reduce(size * (size > limit), dtype=np.float64)) if rescale else 0.0
            total = float(np.add.reduce(size, dtype=np.float64)) if rescale else 0.0
            found.append((int(np.count_nonzero(size == limit)), above, total))
        return found

    rows = blocks.each(look)
    for index, trim in enumerate(trims):
        if trim.limit is None:
            continue
        equal = [row[index][0] for row in rows]
        kept = sum(equal)
        if index in missing:
            kept = left = missing[index]
            trim.spare = []
            for count in equal:
                trim.spare.append(min(count, left))
                left -= trim.spare[-1]
        if rescale and np.isfinite(trim.limit):
            after, before = sum(row[index][1] for row in rows) + kept * trim.limit, sum(row[index][2] for row in rows)
            trim.factor = before / after if min(before, after) >= _TINY else 1.0
