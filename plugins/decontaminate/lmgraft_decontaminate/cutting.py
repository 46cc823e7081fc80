"""What is cut out of a document around its overlaps (GPT-3, arXiv:2005.14165, appendix C)."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["cuts", "widened"]

#: A cut is widened to the next white space, if it is that near, so that no word is left in half.
REACH = 40


def widened(text: str, start: int, stop: int, window: int) -> tuple[int, int]:
    """The span with ``window`` characters on both sides, and on to the next white space."""
    start, stop = max(0, start - window), min(len(text), stop + window)
    left = next((i for i in range(start, max(-1, start - REACH), -1) if i == 0 or text[i - 1].isspace()), start)
    right = next((i for i in range(stop, min(len(text), stop + REACH)) if text[i].isspace()), stop)
    return left, right


def cuts(
    spans: Iterable[tuple[int, int]], size: int, min_piece: int, max_pieces: int
) -> tuple[tuple[int, int], ...] | None:
    """Spans to cut out of a text of ``size`` characters, ascending and disjoint: ``spans``, and the pieces between that
    are shorter than ``min_piece``. None where nothing is left, or more than ``max_pieces`` pieces."""
    least = max(1, min_piece)
    joined: list[list[int]] = [[0, 0]]
    for start, stop in sorted(spans):
        if start - joined[-1][1] < least:
            joined[-1][1] = max(joined[-1][1], stop)
        else:
            joined.append([start, stop])
    if size - joined[-1][1] < least:
        joined[-1][1] = size
    found = tuple((start, stop) for start, stop in joined if stop > start)
    edges = [0, *(edge for span in found for edge in span), size]
    pieces = sum(stop > start for start, stop in zip(edges[::2], edges[1::2], strict=True))
    return found if 0 < pieces <= max_pieces else None
