"""Where in the bytes of a text each of its tokens lies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

__all__ = ["spans"]

Span = tuple[int, int]


def spans(data: bytes, pieces: Sequence[bytes], offsets: Sequence[Span] | None) -> list[Span]:
    """(start, stop) in ``data``, a text's UTF-8, of each token.

    ``pieces`` are the bytes that the tokens stand for: where these are the text itself, or the text behind the space
    that SentencePiece puts before it, they tell to the byte, within a character too. Elsewhere (a normalizer rewrote
    the text, or white space and unknown characters were left out) the library's ``offsets`` tell to the character.
    Spans are in order and never overlap; what lies between them belongs to no token.
    """
    joined = b"".join(pieces)
    if joined == data:
        return _one_by_one(pieces, 0)
    if joined == b" " + data:
        return [(max(0, start), max(0, stop)) for start, stop in _one_by_one(pieces, -1)]
    return list(_sought(data, pieces) if offsets is None else _by_offsets(data, pieces, offsets))


def _one_by_one(pieces: Sequence[bytes], start: int) -> list[Span]:
    stops = list(accumulate(map(len, pieces), initial=start))
    return list(pairwise(stops))


def _sought(data: bytes, pieces: Sequence[bytes]) -> Iterator[Span]:
    """Each piece where it comes next; one that is not there stands for nothing."""
    done = 0
    for piece in pieces:
        start = data.find(piece, done) if piece else -1
        if start >= 0:
            yield start, start + len(piece)
            done = start + len(piece)
        else:
            yield done, done


def _by_offsets(data: bytes, pieces: Sequence[bytes], offsets: Sequence[Span]) -> Iterator[Span]:
    places = _byte_places(data.decode())
    done = 0
    for first, last in _groups(offsets):
        start = max(done, places[offsets[first][0]])
        stop = max(start, places[max(stop for _, stop in offsets[first:last])])
        group = pieces[first:last]
        if last - first == 1:
            yield start, stop
        elif b"".join(group) == data[start:stop]:  # a character cut over several tokens
            yield from _one_by_one(group, start)
        elif not first and b"".join(group) == b" " + data[start:stop]:  # the space that SentencePiece puts before
            yield from ((max(start, left), max(start, right)) for left, right in _one_by_one(group, start - 1))
        else:  # one character that the normalizer made several of
            yield start, stop
            yield from ((stop, stop) for _ in group[1:])
        done = stop


def _groups(offsets: Sequence[Span]) -> Iterator[tuple[int, int]]:
    """Runs of tokens that share characters, as ranges of their numbers."""
    first, reach = 0, 0
    for number, (start, stop) in enumerate(offsets):
        if number and start >= reach:
            yield first, number
            first = number
        reach = max(reach, stop)
    if offsets:
        yield first, len(offsets)


def _byte_places(text: str) -> list[int]:
    """For each character, and for the end, how many bytes stand before it."""
    return list(accumulate((len(character.encode()) for character in text), initial=0))
