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
- Optional methods stand in :class:`ObjectiveOptions`; core looks for each by its name.
- Its config says in ``needs()`` which columns it learns from (``"columns:text"``), and ``"reference"`` where its loss
  reads a reference's log-probabilities.

Where a stage trains on packed tokens, ``encode`` is not called: batches are windows of the token stream, each predicted
token of weight 1, ``unit`` and ``role`` None. Where it trains on rows, each row of a batch is one :class:`Example`;
with ``packing=best_fit`` several Examples stand in one row of a batch, told apart by ``segments`` alone, their weights
kept, and ``unit`` and ``role`` are None. An objective that can be trained so has the word ``packable`` in its config's
``provides()``: its loss is a sum over tokens, in which it makes no difference which row a token is of. Others are
refused before anything runs.

What is told. Core knows no metric by its name; ``nll`` is one like any other.

- A row of training holds ``loss``, and each of ``Loss.metrics`` as sum / count of the whole batch under its own name.
- Held-out *rows* (the stage trains on a corpus): the objective is asked as in training; ``val_loss`` is the sum over
  its terms of sum / total, without the model's own losses, and ``val_NAME`` each metric as sum / count.
- Held-out *packed tokens*: ``val_loss`` is the mean negative log-probability of the targets, in nats, and
  ``val_bits_per_byte`` the same of text alone; the objective is not asked, so there is no ``val_NAME``.
- Left out: a metric whose count is 0, a figure that is not finite, a name that the row has already (``step``,
  ``tokens``, ``lr``, ``loss``, ``grad_norm``, ``tokens_per_second``, ``data_wait``).
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

__all__ = ["Batch", "Example", "Loss", "Objective", "ObjectiveOptions", "ObjectiveSettings"]


@dataclass(frozen=True, slots=True)
class Example:
    """One encoded sequence of a unit. ``weights`` says which *predicted* tokens count: same length as ``tokens``."""

    tokens: list[int]
    """Ids, the first one (which is read and never predicted) included; at most the stage's ``seq_len`` + 1 of them."""
    weights: list[float]
    """Of each token as something to predict; that of the first one is never used."""
    role: int = 0
    """What the sequence is within its unit (0 the chosen, 1 the rejected)."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Numbers of this sequence that ``loss`` is to read from ``Batch.values``; all examples have the same names, and
    those are what ``ObjectiveOptions.values`` gives."""


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
    """(B,) int64: sequences with one number belong together; -1 on rows of padding. Numbers count within the batch.
    None of packed text and of packed rows, where a row of the batch belongs to several."""
    role: torch.Tensor | None = None
    """(B,) int64: see :class:`Example`. None where ``unit`` is."""
    values: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """(B,) float32 numbers that came with the examples (a reference's log-probability)."""


@dataclass(slots=True)
class Loss:
    """Sums over a microbatch, never means."""

    terms: dict[str, torch.Tensor]
    """Scalars with gradient; term k is divided by the batch's total of normalizer k."""
    metrics: dict[str, tuple[float, float]] = field(default_factory=dict)
    """name -> (sum, count), numbers and not tensors: told as sum / count of the whole batch; of a corpus ``val_NAME``
    too ("What is told" above)."""


@runtime_checkable
class Objective(Protocol):
    """The part: what is learnt from, and the loss."""

    asks: frozenset[str]
    """What the model is asked for at every position, of ``lmgraft.seams.architecture.ASKS``; what :class:`Outputs`
    holds in ``loss``."""

    def columns(self) -> frozenset[str]:
        """The document columns it learns from (``{"text"}``)."""
        ...

    def encode(self, document: Document, tokenizer: TextTokenizer) -> list[Example]:
        """The sequences of one document: one unit. Empty where the document holds nothing to learn."""
        ...

    def normalizers(self, batch: Batch) -> dict[str, float]:
        """The denominators of the terms, from data only: name -> this microbatch's share of the total. A total of 0 of
        the whole batch counts as 1; a microbatch of padding gives 0."""
        ...

    def loss(self, out: Outputs, batch: Batch, shared: Mapping[str, Any]) -> Loss:
        """The terms under the names of ``normalizers``, as sums over this microbatch. ``out`` holds what ``asks``
        names, (B, T) float32 each, on the batch's device; ``shared`` what an optional ``prepare`` of every microbatch
        summed up to, ``{}`` without one. Called outside autocast; without gradients for held-out rows."""
        ...


class ObjectiveOptions(Protocol):
    """What an objective may have beside :class:`Objective`. Each of them is optional by itself."""

    def chat_template(self, tokenizer: TextTokenizer) -> str:
        """The Jinja source that ``encode`` formats chats with. Core saves it beside the finished model's tokenizer, so
        that text generation formats prompts as training did."""
        ...

    def values(self) -> frozenset[str]:
        """The names that ``loss`` reads from ``Batch.values``. ``"reference"`` is filled from the stage's
        ``reference``: the summed log-probability, by ``weights``, of each sequence under the reference model. All
        others are filled by ``Example.values``."""
        ...

    def prepare(self, out: Outputs, batch: Batch) -> Mapping[str, Any]:
        """Sums over a microbatch that ``loss`` needs of the whole batch (KTO's KL): numbers or tensors, added up over
        microbatches and data ranks and given to every ``loss`` as ``shared``. Called without gradients; costs a second
        forward pass of every microbatch."""
        ...


class ObjectiveSettings(Protocol):
    """What an objective's config may have beside :class:`lmgraft.component.ComponentConfig`. Optional."""

    def encoding(self) -> Mapping[str, Any]:
        """The settings that decide what ``encode`` makes of a document, by name. A tokens stage may encode rows once
        for many stages, and each of those must have the same objective with the same of these; a loss's own settings
        (DPO's ``beta``) may differ. Without this method all settings count."""
        ...
