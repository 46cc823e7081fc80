"""Door ``initializer``: how weights start. Beside ``architecture``.

Rules
- One tensor at a time, from the generator it is given and nothing else: so the order of tensors and the layout over
  devices change nothing. Tensors are canonical and unfused (q, k and v apart).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from lmgraft.seams.architecture import TensorRole

if TYPE_CHECKING:
    import torch

__all__ = ["Initializer", "ModelShape"]


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What an initializer may know of the whole model."""

    layers: int
    """Blocks in the stack."""
    hidden: int
    """Width of the residual stream."""


@runtime_checkable
class Initializer(Protocol):
    """The part: fills one tensor after another."""

    def fill(self, tensor: torch.Tensor, role: TensorRole, shape: ModelShape, generator: torch.Generator) -> None:
        """Fills a float32 CPU tensor in place. Its shape is the parameter's own, ``(out, in)`` for a projection;
        ``generator`` is seeded with (seed, name of the tensor)."""
        ...
