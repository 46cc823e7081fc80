"""Cuts a document into overlapping windows so that each of its tokens is predicted exactly once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["windows"]


def windows(
    ids: Sequence[int], first_id: int, *, window: int, stride: int
) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
    """(prefix, continuation) pairs whose continuations, joined, are ``ids``.

    The model reads at most ``window`` tokens to predict any one: prefix and continuation together are at most
    ``window + 1`` ids. The first window starts from ``first_id`` and predicts up to ``window`` tokens; every further
    one predicts ``stride`` tokens (the last the rest) and is filled up with all the left context that fits. This is
    the sliding window of Hugging Face's "Perplexity of fixed-length models"; two deviations: the first token is
    predicted too (from what documents begin with, as the model saw them in training), and a short last window keeps
    its full left context.
    """
    sequence = [first_id, *ids]
    start = 1
    while start < len(sequence):
        stop = min(start + (window if start == 1 else stride), len(sequence))
        yield sequence[max(0, stop - window - 1) : start], sequence[start:stop]
        start = stop
