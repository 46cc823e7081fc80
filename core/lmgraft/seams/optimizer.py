"""Door ``optimizer``: how gradients become steps. Beside ``objective``.

Rules
- State is per parameter and elementwise or per tensor, so that a layout may shard it; its names are stable.
- The learning rate comes with each step: the loop multiplies ``peak()`` with the schedule's factor, and the engine sets
  ``group["lr"]`` to that times the group's ``scale`` before it calls ``step()``; an ``lr`` of ``build``'s is not used.
- Its state holds tensors and numbers only, and nothing else decides the next step: it is saved by parameter name and
  restored under any layout.
- Clipping is the engine's; ``weight_decay`` and the like are settings of the part. Global norms or anything else that
  mixes parameters cannot be sharded.
- A parameter whose gradient is None is passed over.
- Parameters whose ``TensorRole.lr_scale`` differs are in different groups, each with that number as its ``scale``
  (times a scale of the part's own, where it has one).
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
        """A torch optimizer over these parameters, each in one group, grouped as it likes. The engine multiplies each
        group's ``scale`` (1 where absent) with the step's learning rate."""
        ...
