"""Documents that share rows, as sequences of their own for torch's kernels.

An LSTM's state must start anew with each document, and torch's kernels start it with each sequence. Documents of about
the same length are put below one another as one batch. (torch also takes sequences of unequal lengths as a packed
batch, on a processor by another kernel, which takes three times as long: measured with 256 columns.)
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

__all__ = ["batches", "one_each"]

#: A batch holds documents of at least this share of its longest one's length; the rest of its places is padding.
SHARE = 0.75


def one_each(segments: torch.Tensor) -> bool:
    """Is every row one document, padded at its right at most? Then rows are sequences as they are."""
    first = segments[:, :1]
    one = ((segments == first) | (segments < 0)).all() and (first >= 0).all()
    return bool(one and (segments[:, 1:] <= segments[:, :-1]).all())


def batches(segments: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The documents of ``segments`` (B, T), longest first: the numbers of their tokens, counted row by row, (documents,
    longest), and which of those places hold one. Padding (-1) is in none."""
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    begins = begins.flatten()
    starts, lengths = begins.nonzero()[:, 0], torch.bincount(begins.cumsum(0) - 1)
    real = segments.flatten()[starts] >= 0
    starts, lengths = starts[real], lengths[real]
    lengths, order = lengths.sort(descending=True, stable=True)
    starts, sizes = starts[order], lengths.tolist()
    first = 0
    while first < len(sizes):
        end = next((at for at in range(first, len(sizes)) if sizes[at] < SHARE * sizes[first]), len(sizes))
        place = torch.arange(sizes[first], device=segments.device)
        there = place < lengths[first:end, None]
        # A place without a token shows the document's last one: the state after that is asked by nobody.
        yield starts[first:end, None] + torch.minimum(place, lengths[first:end, None] - 1), there
        first = end
