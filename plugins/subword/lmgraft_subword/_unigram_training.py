"""Training of a unigram language model over pieces (Kudo 2018, arXiv 1804.10959), as SentencePiece does it.

Seeds are the most frequent strings within words; then, in turns, scores are fitted by expectation maximisation and the
pieces whose loss would cost the likelihood least are dropped, until as many are left as asked for. Single characters
always stay.

Hugging Face's ``UnigramTrainer`` does the same, but sums in the order of a hash table that differs between processes:
scores then differ in their second digit, which would break "the same texts give the same bytes". Hence this one. It
differs from both in that a piece's loss is its expected count times the score that it has over its best cut into
others (SentencePiece takes counts of best cuts), and in pruning to the size itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmgraft_subword._lattice import Floats, Ints, Lattice, Nodes, Words

__all__ = ["Settings", "learn"]

#: A piece that is expected less often is dropped in the M step, and a character is never taken as rarer.
_LEAST = 0.5
#: Digits of a score, as a float32 of SentencePiece holds: what processors round otherwise is cut off.
_DIGITS = 6


@dataclass(frozen=True)
class Settings:
    """What training is told."""

    pieces: int
    """Pieces to end with, characters included."""
    longest: int
    """Characters of the longest piece."""
    seeds: int
    """Pieces to begin with."""
    shrink: float
    """Share that each round of pruning keeps."""
    sub_iterations: int
    """Steps of expectation maximisation in a round."""


@dataclass(frozen=True)
class _Seeds:
    at: Ints
    """Where a piece's first occurrence begins; the first ones are single characters, in the order of their numbers."""
    size: Ints
    scores: Floats
    edges: tuple[Nodes, Nodes, Nodes]
    """at, size and piece of every occurrence."""


def learn(words: Words, characters: int, settings: Settings) -> tuple[Ints, Ints, Floats]:
    """Where each piece occurs first (``at`` in ``words.codes``, ``size``), and its score, highest first.

    ``words.codes`` holds numbers below ``characters``, each of them at least once.
    """
    seeds = _seeds(words, characters, settings)
    at, size, scores = seeds.at, seeds.size, seeds.scores
    lattice = Lattice(words, *seeds.edges)
    inner = _inner(words, seeds)
    while True:
        for _ in range(settings.sub_iterations):
            scores, kept = _fitted(lattice, scores, characters)
            at, size, scores = _kept(kept, at, size, scores, lattice, inner)
        if len(at) <= settings.pieces:
            break
        wanted = max(settings.pieces, int(settings.shrink * len(at)))
        kept = _worth_keeping(lattice, inner, scores, characters, wanted)
        at, size, scores = _kept(kept, at, size, scores, lattice, inner)
    scores = np.round(scores, _DIGITS)
    order = np.lexsort((at, size, -scores))
    return at[order], size[order], scores[order]


def _seeds(words: Words, characters: int, settings: Settings) -> _Seeds:
    """Strings that occur twice or more; of those that are always followed by the same character, the longer ones."""
    remaining = np.repeat(words.lengths, words.lengths) - words.offset
    counts = np.repeat(words.counts, words.lengths)
    alive, ids = np.arange(len(words.codes)), words.codes
    total = characters
    firsts = [np.unique(words.codes, return_index=True)[1]]
    sizes, freqs = [np.ones(characters, np.int64)], [np.bincount(words.codes, weights=counts, minlength=characters)]
    seen = [_narrow(alive, 1, ids)]
    for size in range(2, settings.longest + 1):
        chosen = remaining[alive] >= size
        alive, ids = alive[chosen], ids[chosen]
        keys = ids * characters + words.codes[alive + size - 1]
        found, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        freq = np.bincount(inverse, weights=counts[alive], minlength=len(found))
        twice = freq >= 2
        if not twice.any():
            break
        parent = found[twice] // characters - (total - len(freqs[-1]))
        if size > 2:
            # Always followed by the same character: the longer string says the same.
            freqs[-1][parent[freq[twice] == freqs[-1][parent]]] *= -1
        numbers = np.cumsum(twice) - 1 + total
        firsts.append(alive[first[twice]])
        chosen = twice[inverse]
        alive, ids = alive[chosen], numbers[inverse[chosen]]
        freqs.append(freq[twice])
        sizes.append(np.full(int(twice.sum()), size))
        seen.append(_narrow(alive, size, ids))
        total += int(twice.sum())
    return _best_seeds(np.concatenate(firsts), np.concatenate(sizes), np.concatenate(freqs), seen, characters, settings)


def _narrow(at: Ints, size: int, piece: Ints) -> tuple[Nodes, Nodes, Nodes]:
    """Edges take most of the memory: 12 bytes each here."""
    return at.astype(np.int32), np.full(len(at), size, np.int32), piece.astype(np.int32)


def _best_seeds(
    at: Ints, size: Ints, freq: Floats, seen: list[tuple[Nodes, Nodes, Nodes]], characters: int, settings: Settings
) -> _Seeds:
    worth = freq * size
    worth[:characters] = np.inf
    most = max(settings.seeds, settings.pieces)
    order = np.lexsort((np.arange(len(at)), -worth))[: max(characters, min(most, int((freq > 0).sum())))]
    chosen = np.zeros(len(at), bool)
    chosen[order] = True
    numbers = np.cumsum(chosen) - 1
    seen = [tuple(column[chosen[edges[2]]] for column in edges) for edges in seen]
    edges = [np.concatenate(column) for column in zip(*seen, strict=True)]
    seen.clear()
    worth = (freq * size)[chosen]
    scores = np.log(worth) - np.log(worth.sum())
    return _Seeds(at[chosen], size[chosen], scores, (edges[0], edges[1], numbers.astype(np.int32)[edges[2]]))


def _inner(words: Words, seeds: _Seeds) -> Lattice:
    """The pieces as words themselves, with the edges that lie within them at their first occurrence."""
    order = np.lexsort((seeds.edges[1], seeds.edges[0]))
    at, size, piece = (column[order] for column in seeds.edges)
    # For each piece: the edges that begin at one of its characters and end in it.
    places = _ranges(seeds.at, seeds.size)
    owner = np.repeat(np.arange(len(seeds.at)), seeds.size)
    begin, stop = np.searchsorted(at, places), np.searchsorted(at, places, side="right")
    edge = _ranges(begin, stop - begin)
    place = np.repeat(np.arange(len(places)), stop - begin)
    ends = at[edge] + size[edge]
    fits = ends <= (seeds.at + seeds.size)[owner[place]]
    edge, place = edge[fits], place[fits]
    pieces = Words(words.codes[places], seeds.size, np.ones(len(seeds.at), np.int64))
    return Lattice(pieces, place, size[edge], piece[edge])


def _ranges(starts: Ints, lengths: Ints) -> Ints:
    """``starts[0], starts[0] + 1, ..`` for each start, one after the other."""
    before = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)


def _fitted(lattice: Lattice, scores: Floats, characters: int) -> tuple[Floats, NDArray[np.bool_]]:
    """One step of expectation maximisation with a sparse prior (SentencePiece: digamma of counts), and what is left."""
    expected = lattice.expected(scores, len(scores))
    expected[:characters] = np.maximum(expected[:characters], _LEAST)
    kept = expected >= _LEAST
    return _digamma(np.maximum(expected, _LEAST)) - _digamma(np.array([expected[kept].sum()])), kept


def _worth_keeping(lattice: Lattice, inner: Lattice, scores: Floats, characters: int, wanted: int) -> NDArray[np.bool_]:
    """The single characters, and of the others those whose loss would cost the likelihood most."""
    lost = lattice.expected(scores, len(scores)) * (scores - inner.best_but_whole(scores))
    lost[:characters] = np.inf
    kept = np.zeros(len(scores), bool)
    kept[np.lexsort((np.arange(len(scores)), -lost))[:wanted]] = True
    return kept


def _kept(
    kept: NDArray[np.bool_], at: Ints, size: Ints, scores: Floats, lattice: Lattice, inner: Lattice
) -> tuple[Ints, Ints, Floats]:
    if not kept.all():
        numbers = np.cumsum(kept) - 1
        lattice.keep(kept, numbers)
        inner.keep(kept, numbers, are_words=True)
    return at[kept], size[kept], scores[kept]


def _digamma(values: Floats) -> Floats:
    """The derivative of log gamma, for values from 0.5 (Abramowitz and Stegun, 6.3.5 and 6.3.18)."""
    shifted, result = values.copy(), np.zeros_like(values)
    for _ in range(7):
        low = shifted < 7
        result[low] -= 1 / shifted[low]
        shifted[low] += 1
    inverse = 1 / (shifted * shifted)
    series = inverse * (1 / 12 - inverse * (1 / 120 - inverse * (1 / 252 - inverse / 240)))
    return result + np.log(shifted) - 0.5 / shifted - series
