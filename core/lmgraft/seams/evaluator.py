"""Seam ``evaluator``: what is measured.

An evaluator sees a :class:`~lmgraft.seams.parallelism.ModelHandle`, never a module, so it runs under any layout.

Rules
- Deterministic: neither batch size nor layout changes a score.
- A score carries what is needed to compare it with another (unit, number of items, settings).
- Every rank of a layout calls ``run`` with the same arguments and asks the same questions in the same order; all get
  the same answers. Work that depends on a clock, a rank or unseeded chance would leave the ranks waiting.
- Ask in batches: ``handle.score`` takes many requests at once and is much faster so.
- Its config says in ``needs()`` which columns it reads (``"columns:text"``), and ``"split:validation"`` where it reads
  held-out documents: a recipe that holds nothing out is then refused before any work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from lmgraft.seams.data_source import Document
from lmgraft.seams.parallelism import ModelHandle
from lmgraft.seams.tokenizer import TextTokenizer

__all__ = ["EvaluationData", "Evaluator", "Score"]


@dataclass(frozen=True, slots=True)
class Score:
    """One figure of one model."""

    name: str
    """What was measured; one evaluator's scores of one model have different names."""
    value: float
    """The figure, finite."""
    unit: str = ""
    """``bits/byte``, ``nats``, ``%`` ...; empty for a pure number."""
    higher_is_better: bool = True
    """Which way is up, for tables and sweeps."""
    reference: bool = False
    """True for a figure beside the model's, such as gzip's on the same text."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """JSON values: number of items, settings, a hash of the prompts."""


class EvaluationData(Protocol):
    """The corpora that the stage was given."""

    def documents(self, split: str, columns: frozenset[str] = frozenset({"text"})) -> Iterator[Document]:
        """The documents of ``"train"`` or ``"validation"`` of every corpus of the stage that holds all ``columns``
        (``text``, ``messages``, ``chosen`` ...), in the stage's and the corpus's order."""
        ...


@runtime_checkable
class Evaluator(Protocol):
    """The part: asks a model and gives scores."""

    def run(
        self, handle: ModelHandle, tokenizer: TextTokenizer, *, data: EvaluationData, limit: int | None
    ) -> list[Score]:
        """``handle`` is the model, ``tokenizer`` the one saved with it. ``limit`` caps the number of items; None takes
        all.

        :raises UserError: there is nothing to ask (no such documents).
        """
        ...
