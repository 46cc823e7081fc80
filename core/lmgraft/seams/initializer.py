"""Door ``initializer``: how weights start. Beside ``architecture``.

Rules
- One tensor at a time, from the generator it is given and nothing else: so the order of tensors and the layout over
  devices change nothing. Tensors are canonical and unfused (q, k and v apart).
- Parameters only: buffers are what ``Architecture.build`` made them.
- Every tensor is filled, whatever its role and its shape: an architecture may have ``Role.OTHER`` (a convolution of
  three dimensions, a vector, a single number). What the parts that come with lmgraft do: a norm's gain starts at 1, a
  bias at 0; ``xavier`` and ``tfixup`` set other vectors to 0 and draw ``OTHER`` matrices by their fan-in and fan-out;
  ``normal``, ``small_init``, ``wang`` and ``mup`` draw all that is neither norm nor bias, vectors of ``OTHER`` too.
  An adapter fills what it adds itself (:mod:`lmgraft.seams.adapter`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from lmgraft.seams.architecture import TensorRole

if TYPE_CHECKING:
    import torch

__all__ = ["Initializer", "ModelShape", "ScalingInitializer"]


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What an initializer may know of the whole model: of its decoder spec where it has one, otherwise of the roles and
    shapes of its parameters (:func:`lmgraft.training.weights.model_shape`)."""

    layers: int
    """Blocks in the stack, at least 1."""
    hidden: int
    """Width of the residual stream."""
    head_dim: int | None = None
    """Width of an attention head; None where no decoder spec tells it."""
    tied: bool = False
    """The head is the embedding matrix."""


@runtime_checkable
class Initializer(Protocol):
    """The part: fills one tensor after another."""

    def fill(self, tensor: torch.Tensor, role: TensorRole, shape: ModelShape, generator: torch.Generator) -> None:
        """Fills a float32 CPU tensor in place; what it holds before is chance. Its shape is the parameter's own,
        ``(out, in)`` for a projection; ``generator`` is seeded with (seed, name of the tensor)."""
        ...


@runtime_checkable
class ScalingInitializer(Initializer, Protocol):
    """An initializer whose parametrisation has learning rates of its own (muP). The method is optional."""

    def lr_scale(self, role: TensorRole, size: Sequence[int], shape: ModelShape) -> float:
        """Of a parameter of this whole shape: its learning rate is so many times the step's. It holds wherever the
        stage names the initializer, where weights start from a model too. Core hands it to the optimizer as
        ``TensorRole.lr_scale``."""
        ...
