"""Seam ``objective``: what is optimised.

An objective never sees logits. It *asks* for per-position quantities (``lmgraft.seams.architecture.ASKS``) that an
engine can compute chunk by chunk on a vocabulary split over ranks.

Sums, and their totals beforehand: ``normalizers`` depends on data only and is summed over microbatches and data ranks
before backward; ``loss`` returns sums; the engine optimises the sum over k of terms[k] / total[k]. So neither the
split into microbatches nor the number of ranks changes a gradient.

Rules
- ``loss`` does not depend on padding, nor on the order or the split of sequences.
- A unit (a pair, a group) is never split: sequences with one ``unit`` number arrive in one microbatch.
- ``encode`` refuses a document that it cannot learn from with a :class:`lmgraft.errors.UserError` that names the
  document's id; one with nothing to learn gives no examples. It does not cut: what is longer than the stage's
  ``seq_len`` core counts and drops, or refuses, as the stage is configured.
- Optional: ``chat_template(tokenizer) -> str``, the Jinja source that ``encode`` formats chats with. Core saves it
  beside the finished model's tokenizer, so that text generation formats prompts as training did.
- Optional: ``values() -> frozenset[str]``, the names that ``loss`` reads from ``Batch.values`` and that ``encode`` does
  not fill; they come from the stage's ``reference`` (``"reference"``: the summed log-probability of each sequence).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from lmgraft.seams.architecture import Outputs
from lmgraft.seams.data_source import Document
from lmgraft.seams.tokenizer import TextTokenizer

if TYPE_CHECKING:
    import torch

__all__ = ["Batch", "Example", "Loss", "Objective"]


@dataclass(frozen=True, slots=True)
class Example:
    """One encoded sequence of a unit. ``weights`` says which *predicted* tokens count: same length as ``tokens``."""

    tokens: list[int]
    weights: list[float]
    role: int = 0
    """What the sequence is within its unit (0 the chosen, 1 the rejected)."""
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Batch:
    """One microbatch of B sequences of T positions. Position t predicts ``targets[:, t]``."""

    tokens: torch.Tensor
    """(B, T) int64."""
    targets: torch.Tensor
    """(B, T) int64; -1 where there is nothing to predict."""
    weights: torch.Tensor
    """(B, T) float32 weight of each prediction; 0 on padding."""
    positions: torch.Tensor
    """(B, T) int64, restarting with each document."""
    segments: torch.Tensor | None = None
    """(B, T) int64 document number, -1 on padding; None where each row is one document without padding."""
    unit: torch.Tensor | None = None
    """(B,) int64: sequences with one number belong together."""
    role: torch.Tensor | None = None
    """(B,) int64: see :class:`Example`."""
    values: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """(B,) float32 numbers that came with the examples (a reference's log-probability)."""


@dataclass(slots=True)
class Loss:
    """Sums over a microbatch, never means."""

    terms: dict[str, torch.Tensor]
    """Scalars with gradient; term k is divided by the batch's total of normalizer k."""
    metrics: dict[str, tuple[float, float]] = field(default_factory=dict)
    """name -> (sum, count)."""


@runtime_checkable
class Objective(Protocol):
    asks: frozenset[str]

    def columns(self) -> frozenset[str]:
        """The document columns it learns from (``{"text"}``)."""
        ...

    def encode(self, document: Document, tokenizer: TextTokenizer) -> list[Example]:
        """The sequences of one document: one unit. Empty where the document holds nothing to learn."""
        ...

    def normalizers(self, batch: Batch) -> dict[str, float]:
        """The denominators of the terms, from data only."""
        ...

    def loss(self, out: Outputs, batch: Batch, shared: Mapping[str, Any]) -> Loss:
        """``shared`` holds what an optional ``prepare(out, batch)`` of every microbatch summed up to."""
        ...
