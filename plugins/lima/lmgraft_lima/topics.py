"""Groups of prompts by their words, and how a selection is shared out among groups."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from itertools import pairwise

import numpy as np
import numpy.typing as npt

__all__ = ["WIDTH", "grouped", "shares", "words"]

Floats = npt.NDArray[np.float32]

#: Numbers that stand for the words of a prompt (feature hashing with signs: Weinberger et al. 2009).
WIDTH = 128
#: Runs of letters and digits; scripts without spaces give every two neighbouring characters.
TERMS = re.compile(r"[a-z0-9_]+|[^\W\d_a-z]", re.IGNORECASE)
ROUNDS = 20


def words(text: str) -> Floats:
    """(WIDTH,): a prompt's words, hashed; length 1, or 0 where there are none."""
    terms = TERMS.findall(text.casefold()[:4000])
    terms = [a if a.isascii() else a + b for a, b in pairwise([*terms, ""])]
    vector = np.zeros(WIDTH, dtype=np.float32)
    for term in set(terms):
        number = int.from_bytes(blake2b(term.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big")
        vector[number % WIDTH] += 1.0 if number & 0x8000_0000 else -1.0
    length = float(np.linalg.norm(vector))
    return vector / length if length else vector


def grouped(vectors: Floats, groups: int) -> list[int]:
    """The group of each row of ``vectors`` (N, WIDTH): k-means by direction (Dhillon and Modha 2001). Starts from rows
    far from one another; no random number is drawn, so the same rows in the same order give the same groups."""
    centres = _far_apart(vectors, min(groups, len(vectors)))
    nearest = (vectors @ centres.T).argmax(axis=1)
    for _ in range(ROUNDS):
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, vectors)
        filled = np.bincount(nearest, minlength=len(centres)) > 0
        centres[filled] = _unit(sums[filled])
        now = (vectors @ centres.T).argmax(axis=1)
        if np.array_equal(now, nearest):
            break
        nearest = now
    return [int(group) for group in nearest]


def shares(sizes: Sequence[int], total: int, temperature: float) -> list[int]:
    """How many each group gives: in proportion to size ** (1 / temperature), none more than it has, ``total`` in all
    (or everything there is). What rounding leaves goes to the largest remainders, the first of equals."""
    wanted = [float(size) for size in sizes]
    left, unfilled = min(total, sum(sizes)), list(range(len(sizes)))
    while unfilled:
        scale = left / sum(sizes[i] ** (1 / temperature) for i in unfilled)
        part = {i: sizes[i] ** (1 / temperature) * scale for i in unfilled}
        full = [i for i in unfilled if part[i] >= sizes[i]]
        if not full:
            for i in unfilled:
                wanted[i] = part[i]
            break
        left -= sum(sizes[i] for i in full)
        unfilled = [i for i in unfilled if part[i] < sizes[i]]
    given = [int(amount + 1e-6) for amount in wanted]  # a cube root may fall a hair short of a whole number
    rest = min(total, sum(sizes)) - sum(given)
    for i in sorted(range(len(sizes)), key=lambda i: (given[i] - wanted[i], i))[:rest]:
        given[i] += 1
    return given


def _far_apart(vectors: Floats, count: int) -> Floats:
    """The first row, then again and again the one whose nearest so far is the least like it (Gonzalez 1985)."""
    chosen = [0]
    like = vectors @ vectors[0]
    while len(chosen) < count:
        chosen.append(int(like.argmin()))
        like = np.maximum(like, vectors @ vectors[chosen[-1]])
    return vectors[chosen].copy()


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), dtype=np.float32)
