"""Door ``adapter``: few weights that are trained beside many that are frozen (LoRA). Beside ``architecture``.

Rules
- ``adapt`` gives an :class:`~lmgraft.seams.architecture.Architecture` again, which builds the same model with further
  parameters of ``Role.ADAPTER``. At the start they change no answer: a model that is adapted and not trained answers
  as before, bit for bit or within the precision in which its frozen weights are held.
- Only weights of ``Role.ADAPTER`` are trained (and roles that the stage names in ``trainable``); the stage says so to
  the engine, and frozen weights keep every bit. Where it names ``trainable_layers``, those of other layers stay as
  ``fill_new`` left them and change no answer, and so do those outside of all layers.
- ``to_hub`` folds the adapter into the weights it adapts, so that what is exported is a plain model folder of the
  architecture's own class, with the answers of the adapted one. ``from_hub`` reads such a folder; it holds nothing of
  ``Role.ADAPTER``, and core calls ``fill_new`` for those parameters.
- Checkpoints hold the adapted module's own tensors, frozen ones among them, and no generator's state: what an adapter
  draws while training (dropout) comes from torch's own generator, which the loop seeds from (seed, step, data rank)
  before each step. So steps that are repeated after a kill are the same bit for bit, ranks and microbatches differ,
  and tensor and pipeline peers do not. In ``eval()`` mode nothing is drawn.
- ``spec()`` of an adapted architecture is None: no other engine could build it from the spec.
- Where the architecture's module has ``generation()``, the adapted one's gives a module with the adapter folded in.
- An adapter needs weights to adapt: a stage with one names a ``model``, or an architecture whose settings bring
  ``weights()``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from lmgraft.seams.architecture import Architecture

if TYPE_CHECKING:
    import torch

__all__ = ["Adapted", "Adapter"]


@runtime_checkable
class Adapted(Architecture, Protocol):
    """An architecture with an adapter in it."""

    def fill_new(self, name: str, tensor: torch.Tensor, generator: torch.Generator) -> None:
        """Fills a parameter of ``Role.ADAPTER``, a float32 CPU tensor, in place; ``generator`` is seeded with (seed,
        name)."""
        ...


@runtime_checkable
class Adapter(Protocol):
    """The part: puts itself into an architecture."""

    def adapt(self, architecture: Architecture) -> Adapted:
        """The architecture with this adapter in it.

        :raises UserError: it has nothing that this adapter could be put to.
        """
        ...
