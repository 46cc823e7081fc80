"""The model as a module that answers, for :class:`lmgraft.training.handle.Handle`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from lmgraft.seams.architecture import Outputs
from lmgraft.seams.objective import Batch
from torch import nn

__all__ = ["Asked"]


class Asked(nn.Module):
    """Collective: every rank asks the same. Without a cache, so a handle gives the whole past each time."""

    def __init__(self, answer: Callable[[Batch, frozenset[str]], Outputs], model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._answer = answer

    def forward(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor | None = None,
        segments: torch.Tensor | None = None,
        targets: torch.Tensor | None = None,
        asks: Collection[str] = (),
        cache: Any = None,
    ) -> Outputs:
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        if targets is None:
            targets = torch.full_like(tokens, -1)
        batch = Batch(tokens, targets, torch.zeros(tokens.shape, device=tokens.device), positions, segments)
        # Made outside inference mode, in which a handle asks: the layers may keep tensors for their next step.
        with torch.inference_mode(False):
            batch = Batch(*(None if part is None else part.clone() for part in _parts(batch)))  # type: ignore[arg-type]
            return self._answer(batch, frozenset(asks))


def _parts(batch: Batch) -> tuple[torch.Tensor | None, ...]:
    return batch.tokens, batch.targets, batch.weights, batch.positions, batch.segments
