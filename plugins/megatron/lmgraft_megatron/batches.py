"""A microbatch as Megatron's layers take it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from lmgraft.seams.objective import Batch
from torch.nn import functional

__all__ = ["Fed", "feed", "moved"]


@dataclass(frozen=True, slots=True)
class Fed:
    """The batch as the objective knows it, and what goes into the model, padded to what the sequence's split takes."""

    batch: Batch
    tokens: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    """(B or 1, 1, T, T) bool: True where a token does not see another."""


def moved(batch: Batch, device: torch.device) -> Batch:
    if batch.tokens.device == device:
        return batch
    there = {
        field.name: value.to(device, non_blocking=True)
        for field in dataclasses.fields(batch)
        if isinstance(value := getattr(batch, field.name), torch.Tensor)
    }
    values = {name: value.to(device, non_blocking=True) for name, value in batch.values.items()}
    return dataclasses.replace(batch, **there, values=values)


def feed(batch: Batch, multiple: int) -> Fed:
    """``multiple``: the length becomes one of it, by padding at the right that nothing before it sees."""
    extra = -batch.tokens.shape[1] % multiple
    segments = batch.segments
    if extra and segments is None:
        segments = torch.zeros_like(batch.tokens)
    tokens = functional.pad(batch.tokens, (0, extra))
    positions = functional.pad(batch.positions, (0, extra))
    if segments is not None:
        segments = functional.pad(segments, (0, extra), value=-1)
    return Fed(batch, tokens, positions, _unseen(tokens, segments))


def _unseen(tokens: torch.Tensor, segments: torch.Tensor | None) -> torch.Tensor:
    """A token sees those up to itself of its own segment; padding sees padding, so no row of the softmax is empty."""
    length = tokens.shape[1]
    order = torch.arange(length, device=tokens.device)
    unseen = (order[None, :] > order[:, None])[None]
    if segments is not None:
        unseen = unseen | (segments[:, :, None] != segments[:, None, :])
    return unseen[:, None]
