"""Door ``optimizer``: how gradients become steps. Beside ``objective``.

Rules
- State is per parameter and elementwise or per tensor, so that a layout may shard it; its names are stable.
- The learning rate comes with each step; ``lr`` of the config is the schedule's peak.
- Its state holds tensors and numbers only, and nothing else decides the next step: it is saved by parameter name and
  restored under any layout.
- Clipping is the engine's; ``weight_decay`` and the like are settings of the part. Global norms or anything else that
  mixes parameters cannot be sharded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from lmgraft.seams.architecture import TensorRole

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Optimizer"]


@runtime_checkable
class Optimizer(Protocol):
    """The part: makes a torch optimizer."""

    def peak(self) -> float:
        """The learning rate at a schedule factor of 1."""
        ...

    def build(self, parameters: Sequence[tuple[str, nn.Parameter, TensorRole]]) -> torch.optim.Optimizer:
        """A torch optimizer over these parameters, grouped as it likes; core multiplies each group's ``scale``
        (1 where absent) with the step's learning rate."""
        ...
