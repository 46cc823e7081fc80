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
    """(B, T); packed: (1, B T)."""
    positions: torch.Tensor
    mask: torch.Tensor | None
    """(B or 1, 1, T, T) bool: True where a token does not see another. None: packed."""
    ends: torch.Tensor | None = None
    """Packed: 0 and then where each document ends, int32. Transformer Engine's attention takes this for a mask."""
    longest: int = 0

    def rows(self, hidden: torch.Tensor) -> torch.Tensor:
        """The layers' (T, B, D), or packed (B T, 1, D), as (B, T, D) of the batch: padding cut off, in one piece."""
        count, length = self.batch.tokens.shape
        if self.mask is None:
            return hidden.view(count, -1, hidden.shape[-1])[:, :length].contiguous()
        return hidden.transpose(0, 1)[:, :length].contiguous()


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


def feed(batch: Batch, multiple: int, packed: bool = False, window: int = 0) -> Fed:
    """``multiple``: the length becomes one of it, by padding at the right that nothing before it sees. ``packed``: all
    documents of all rows one after another. ``window``: a token sees so many, itself among them; 0: all before it."""
    extra = -batch.tokens.shape[1] % multiple
    segments = batch.segments
    if segments is None and (extra or packed):
        segments = torch.zeros_like(batch.tokens)
    tokens = functional.pad(batch.tokens, (0, extra))
    positions = functional.pad(batch.positions, (0, extra))
    if segments is not None:
        segments = functional.pad(segments, (0, extra), value=-1)
    if not packed:
        return Fed(batch, tokens, positions, _unseen(tokens, segments, window))
    assert not window, "Transformer Engine's layers are not used with a window"
    assert segments is not None, "filled above"
    ends = _ends(segments)
    return Fed(batch, tokens.view(1, -1), positions.view(1, -1), None, ends, int(ends.diff().max()))


def _ends(segments: torch.Tensor) -> torch.Tensor:
    """A document begins with a row, and where the segment changes; so does padding, which is one by itself."""
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    starts = begins.view(-1).nonzero()[:, 0]
    return torch.cat((starts, starts.new_tensor([segments.numel()]))).to(torch.int32)


def _unseen(tokens: torch.Tensor, segments: torch.Tensor | None, window: int) -> torch.Tensor:
    """A token sees those up to itself of its own segment; padding sees padding, so no row of the softmax is empty."""
    length = tokens.shape[1]
    order = torch.arange(length, device=tokens.device)
    unseen = (order[None, :] > order[:, None])[None]
    if window:
        unseen = unseen | (order[None, :] <= order[:, None] - window)
    if segments is not None:
        unseen = unseen | (segments[:, :, None] != segments[:, None, :])
    return unseen[:, None]
