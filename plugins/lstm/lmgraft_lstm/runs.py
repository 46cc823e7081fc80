"""Documents that share rows, as sequences of their own for torch's kernels.

An LSTM's state must start anew with each document. torch's kernels start it with each sequence, and take sequences of
unequal length as one *packed* batch: first all first tokens, then all second ones, longest sequence first.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

__all__ = ["Runs", "one_each", "runs"]


@dataclass(frozen=True, slots=True)
class Runs:
    """Where the tokens of a batch (B, T) stand in the packed order. A run is a document, or padding beside one."""

    order: torch.Tensor
    """(B * T): the number, row by row, of the token at each packed place."""
    back: torch.Tensor
    """(B * T): the packed place of each token."""
    sizes: torch.Tensor
    """(longest): how many runs have a first token, a second one ...; on the CPU, where torch wants it."""
    last: torch.Tensor
    """(B): the packed number of each row's last run."""


def one_each(segments: torch.Tensor) -> bool:
    """Is every row one document, padded at its right at most? Then rows are sequences as they are."""
    first = segments[:, :1]
    one = ((segments == first) | (segments < 0)).all() and (first >= 0).all()
    return bool(one and (segments[:, 1:] <= segments[:, :-1]).all())


def runs(segments: torch.Tensor) -> Runs:
    """The runs of ``segments`` (B, T)."""
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    begins = begins.flatten()
    starts = begins.nonzero()[:, 0]
    number = begins.cumsum(0) - 1
    place = torch.arange(len(begins), device=segments.device) - starts[number]
    rank = torch.bincount(number).argsort(descending=True, stable=True).argsort()[number]
    order = (place * len(starts) + rank).argsort()
    length = segments.shape[1]
    return Runs(order, order.argsort(), torch.bincount(place).cpu(), rank[length - 1 :: length])
