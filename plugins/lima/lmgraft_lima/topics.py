"""Groups of prompts by their words, and how a selection is shared out among groups.

Vectors hold whole numbers: a direction's components times :data:`SCALE`. A product of two of them is a sum of whole
numbers below 2^24, which single precision holds exactly in whatever order it is added up. So the groups are the same
for any number of threads and on any processor, where rounding would let them drift apart.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from hashlib import blake2b
from itertools import pairwise

import numpy as np
import numpy.typing as npt

__all__ = ["WIDTH", "Shorts", "grouped", "shares", "words"]

Floats = npt.NDArray[np.float32]
Shorts = npt.NDArray[np.int16]

#: Numbers that stand for the words of a prompt (feature hashing with signs: Weinberger et al. 2009).
WIDTH = 128
#: The length of a vector, up to rounding: SCALE squared is 2^22, which leaves room for that below 2^24.
SCALE = 2048
#: Runs of letters and digits; scripts without spaces give every two neighbouring characters.
TERMS = re.compile(r"[a-z0-9_]+|[^\W\d_a-z]", re.IGNORECASE)
ROUNDS = 20
#: Rows whose likeness to all centres is held at one time.
CHUNK = 4096


def words(text: str) -> Shorts:
    """(WIDTH,): a prompt's words, hashed; of length SCALE, or 0 where there are none."""
    terms = TERMS.findall(text.casefold()[:4000])
    terms = [a if a.isascii() else a + b for a, b in pairwise([*terms, ""])]
    counts = [0] * WIDTH
    for term in set(terms):
        number = int.from_bytes(blake2b(term.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big")
        counts[number % WIDTH] += 1 if number & 0x8000_0000 else -1
    return np.asarray(_direction(counts), dtype=np.int16)


def grouped(vectors: Shorts, groups: int) -> list[int]:
    """The group of each row of ``vectors`` (N, WIDTH): k-means by direction (Dhillon and Modha 2001). Starts from rows
    far from one another; no random number is drawn, so the same rows in the same order give the same groups."""
    rows = vectors.astype(np.float32)
    centres = _far_apart(rows, min(groups, len(rows)))
    nearest = _nearest(rows, centres)
    for _ in range(ROUNDS):
        for group in range(len(centres)):
            members = rows[nearest == group]
            if len(members):
                centres[group] = _direction([int(total) for total in members.sum(axis=0, dtype=np.float64)])
        now = _nearest(rows, centres)
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


def _far_apart(rows: Floats, count: int) -> Floats:
    """The first row, then again and again the one whose nearest so far is the least like it (Gonzalez 1985)."""
    chosen = [0]
    like = rows @ rows[0]
    while len(chosen) < count:
        chosen.append(int(like.argmin()))
        like = np.maximum(like, rows @ rows[chosen[-1]])
    return rows[chosen].copy()


def _nearest(rows: Floats, centres: Floats) -> npt.NDArray[np.intp]:
    """The centre that each row is most like, the first of equals."""
    parts = [(rows[at : at + CHUNK] @ centres.T).argmax(axis=1) for at in range(0, len(rows), CHUNK)]
    return np.concatenate(parts)


def _direction(totals: Sequence[int]) -> list[int]:
    """``totals`` scaled to the length SCALE and rounded; Python's whole numbers never round before the root."""
    length = math.sqrt(sum(total * total for total in totals))
    return [round(total * SCALE / length) for total in totals] if length else [0] * len(totals)
