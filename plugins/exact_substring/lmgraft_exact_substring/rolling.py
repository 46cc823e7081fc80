"""Hashes of spans of bytes, 64 bits, the same on every machine.

A polynomial over Z/2^64 of random values of the bytes (Karp and Rabin 1987) from prefix sums, so that a span costs the
same however long it is; then mixed (the finaliser of SplitMix64: Steele, Lea and Flood 2014).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["U64", "Bytes", "Ints", "mixed", "powers", "sums", "values"]

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

BASE = 0xD1342543DE82EF95


def mixed(numbers: U64) -> U64:
    """Each number's bits spread over all 64; a bijection. Overwrites ``numbers`` and returns it."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        numbers ^= numbers >> np.uint64(shift)
        numbers *= np.uint64(factor)
    return numbers


@cache
def values() -> U64:
    """(256,): the random number that stands for each byte."""
    return mixed(np.arange(1, 257, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))


def powers(count: int) -> tuple[U64, U64]:
    """BASE^i and BASE^-i modulo 2^64 for i below ``count`` at least; an odd number has an inverse."""
    return _powers(1 << max(16, count.bit_length()))


@cache
def _powers(count: int) -> tuple[U64, U64]:
    found = []
    for base in (BASE, pow(BASE, -1, 1 << 64)):
        steps = np.full(count, base, np.uint64)
        steps[0] = 1
        found.append(np.cumprod(steps, dtype=np.uint64))
    return found[0], found[1]


def sums(data: npt.NDArray[Any]) -> U64:
    """(..., N + 1): prefix sums of bytes (..., N). The span [i, j) has ``mixed((sums[j] - sums[i]) * BASE^-i)``."""
    found = np.zeros((*data.shape[:-1], data.shape[-1] + 1), np.uint64)
    np.multiply(values()[data], powers(data.shape[-1])[0][: data.shape[-1]], out=found[..., 1:])
    np.cumsum(found[..., 1:], axis=-1, out=found[..., 1:])
    return found
