"""Hashes of 64 bits over numpy arrays, the same on every machine and in every process.

Spans are hashed by a polynomial over Z/2^64 (Karp and Rabin 1987) from prefix sums, so a span costs the same however
long it is, and then mixed (the finaliser of SplitMix64: Steele, Lea and Flood 2014). The hashed values are random
64-bit numbers themselves; texts made to collide could be found, texts that collide by chance are one pair in 2^62.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["U64", "Ints", "draw", "mixed", "spans"]

U64 = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

GOLDEN = 0x9E3779B97F4A7C15
BASE = 0xD1342543DE82EF95
MASK = (1 << 64) - 1


def mixed(values: U64) -> U64:
    """Each value's bits spread over all 64; a bijection. Overwrites ``values`` and returns it."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        values ^= values >> np.uint64(shift)
        values *= np.uint64(factor)
    return values


def draw(seed: int, stream: int, count: int) -> U64:
    """``count`` numbers of a seed's stream: SplitMix64, whose start is a hash of both."""
    start = mixed(np.array([seed & MASK], np.uint64)) + np.uint64(stream * GOLDEN & MASK)
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GOLDEN)
    return mixed(mixed(start) + steps)


def spans(values: U64, first: npt.NDArray[Any], stop: npt.NDArray[Any]) -> U64:
    """The hash of ``values[first[i]:stop[i]]`` for each i: equal spans have equal hashes wherever they lie."""
    powers, inverses = _powers(len(values))
    sums = np.zeros(len(values) + 1, np.uint64)
    np.multiply(values, powers[: len(values)], out=sums[1:])
    np.cumsum(sums[1:], out=sums[1:])
    found = sums[stop]
    found -= sums[first]
    found *= inverses[first]
    return mixed(found)


def _powers(count: int) -> tuple[U64, U64]:
    return _powers_of(1 << max(16, (count + 1).bit_length()))


@cache
def _powers_of(count: int) -> tuple[U64, U64]:
    """BASE^i and BASE^-i modulo 2^64 for i below ``count``; an odd number has an inverse."""
    found = []
    for base in (BASE, pow(BASE, -1, 1 << 64)):
        powers = np.full(count, base, np.uint64)
        powers[0] = 1
        found.append(np.cumprod(powers, dtype=np.uint64))
    return found[0], found[1]
