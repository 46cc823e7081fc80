"""Texts to tokens (words or characters) to shingles, as 64-bit hashes; many texts in each numpy call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from lmgraft_minhash.characters import DIGIT, MARK, POINT, SEPARATOR, SINGLE, table
from lmgraft_minhash.hashing import U64, Ints, spans

__all__ = ["PIECE", "Shingler"]

PIECE = 1 << 16
"""Characters that are looked at in one call: what numpy makes of them stays in the processor's cache."""
LONGEST = 1000
"""A longer word (a base64 blob) counts as several of this length."""
SPACE = np.uint64(0x2545F4914F6CDD1D)

Bools = npt.NDArray[np.bool_]


class Shingler:
    """Shingles of ``ngram`` tokens.

    A token is a word (a run of letters and digits), or a character of a script that puts no spaces between words; or,
    with ``chars``, any character, one space between two words included.
    """

    def __init__(self, ngram: int, chars: bool, full: bool) -> None:
        self._ngram = ngram
        self._chars = chars
        self._full = full

    def of_many(self, texts: Sequence[str]) -> tuple[U64, Ints]:
        """(S,) the shingles of all texts, one after another, and (len(texts),) how many each has. Each text is of at
        most PIECE characters."""
        joined = "\n".join(texts)
        bounds = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)) + 1)
        tokens, counts, _ = self._tokens(joined, bounds)
        return self._over(tokens, counts)

    def of_one(self, text: str) -> Iterator[U64]:
        """The shingles of one text of any length, in pieces; memory holds one piece."""
        held = np.zeros(0, np.uint64)
        last = self._ngram - 1
        seen = at = 0
        while at < len(text):
            piece = text[at : at + PIECE]
            final = at + PIECE >= len(text)
            tokens, _, unfinished = self._tokens(piece, np.array([len(piece) + 1]), seen > 0, final)
            at += unfinished
            seen += len(tokens)
            held = np.concatenate([held, tokens])
            if len(held) > last:
                yield self._over(held, np.array([len(held)]))[0]
                held = held[len(held) - last :]
        if 0 < seen <= last:
            yield self._over(held, np.array([len(held)]))[0]

    def _over(self, tokens: U64, counts: Ints) -> tuple[U64, Ints]:
        """Shingles of tokens: all full ones, and of a text with too few tokens the one that holds them all."""
        many = np.maximum(counts - self._ngram + 1, np.minimum(counts, 1))
        ends = np.cumsum(counts)
        # Token i opens a shingle where i < its text's first token + the text's shingles.
        opens = np.repeat(ends - counts - np.cumsum(many) + many, many) + np.arange(int(many.sum()))
        if not len(opens):
            return np.zeros(0, np.uint64), many
        stops = np.minimum(opens + self._ngram, np.repeat(ends, many))
        return spans(tokens, opens, stops), many

    def _tokens(self, text: str, bounds: Ints, continued: bool = False, final: bool = True) -> tuple[U64, Ints, int]:
        """Hashes of the tokens of texts joined by line feeds, how many each text has, and the character from which the
        next piece must go on (the last word of a piece that is not ``final`` may be unfinished)."""
        codes = _codes(text)
        kinds, values = table(self._full)
        kind = kinds[codes]
        kept = self._kept(kind)
        places: npt.NDArray[np.intp] | None = None
        if kept is not None:
            codes, kind = codes[kept], kind[kept]
            bounds = np.concatenate([[0], np.cumsum(kept)])[np.minimum(bounds, len(kept))]
            places = None if final else np.flatnonzero(kept)
        starts, stops = _words(kind, singles=not self._chars)
        unfinished = len(text)
        if not final and len(starts) and stops[-1] >= len(kind) - 1:  # a point at the end may be one of a number
            begin = int(starts[-1] if places is None else places[starts[-1]])
            if begin:  # a word as long as the piece is taken as it is
                starts, stops, unfinished = starts[:-1], stops[:-1], begin
        ends = np.searchsorted(starts, bounds)
        if self._chars:
            return *_characters(values[codes], starts, stops, ends, continued), unfinished
        if len(starts) and int((stops - starts).max()) > LONGEST:
            starts, stops, ends = _shortened(starts, stops, ends)
        hashes = spans(values[codes], starts, stops) if len(starts) else np.zeros(0, np.uint64)
        return hashes, np.diff(ends, prepend=0), unfinished

    def _kept(self, kind: npt.NDArray[np.uint8]) -> Bools | None:
        """Which characters are left without diacritics and all but the first digit of each number; None: all of them.
        Makes a point outside numbers a separator."""
        if not self._full:
            return None
        digit = kind == DIGIT
        dropped = kind == MARK
        inside = kind == POINT
        if inside.any():
            inside[0] = inside[-1] = False
            inside[1:-1] &= digit[:-2] & digit[2:]
            kind[(kind == POINT) & ~inside] = SEPARATOR
            digit |= inside
            dropped |= inside
        dropped[1:] |= digit[1:] & digit[:-1]
        return ~dropped if dropped.any() else None


def _codes(text: str) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint32]:
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _words(kind: npt.NDArray[np.uint8], singles: bool) -> tuple[Ints, Ints]:
    """Where words start, and where they stop."""
    inside = kind != SEPARATOR
    single = kind == SINGLE
    padded = np.zeros(len(kind) + 2, np.bool_)
    padded[1:-1] = inside
    if not (singles and single.any()):
        edges = np.flatnonzero(padded[1:] != padded[:-1])
        return edges[::2], edges[1::2]
    starts = inside & ~padded[:-2]
    starts |= single
    starts[1:] |= inside[1:] & single[:-1]
    stops = inside & ~padded[2:]
    stops[:-1] |= inside[:-1] & starts[1:]
    return np.flatnonzero(starts), np.flatnonzero(stops) + 1


def _shortened(starts: Ints, stops: Ints, ends: Ints) -> tuple[Ints, Ints, Ints]:
    """Words of LONGEST characters at most; ``ends``, words up to each text's end, counts those."""
    pieces = (stops - starts + LONGEST - 1) // LONGEST
    before = np.concatenate([[0], np.cumsum(pieces)])
    within = np.arange(before[-1]) - np.repeat(before[:-1], pieces)
    first = np.repeat(starts, pieces) + within * LONGEST
    return first, np.minimum(first + LONGEST, np.repeat(stops, pieces)), before[ends]


def _characters(values: U64, starts: Ints, stops: Ints, ends: Ints, continued: bool) -> tuple[U64, Ints]:
    """The characters of words, each word but a text's first after a space; how many each text has."""
    lengths = stops - starts
    spaced = np.ones(len(starts), np.int64)
    firsts = np.concatenate([[0], ends[:-1]])
    spaced[firsts[firsts < ends]] = int(continued)
    sizes = lengths + spaced
    after = np.cumsum(sizes)
    tokens = np.full(int(sizes.sum()), SPACE, np.uint64)
    places = np.arange(int(lengths.sum()))
    before = np.cumsum(lengths) - lengths
    tokens[places + np.repeat(after - lengths - before, lengths)] = values[places + np.repeat(starts - before, lengths)]
    return tokens, np.diff(np.concatenate([[0], after])[ends], prepend=0)
