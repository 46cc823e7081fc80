"""Held-out loss while training: of packed text in nats a token and bits a byte, which compares across tokenizers; of
rows in what the objective itself counts."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from lmgraft.seams.objective import Batch, Objective
from lmgraft.seams.parallelism import Engine

__all__ = ["HeldOut", "MixedValidation", "RowValidation", "Surprise", "Validation"]


class HeldOut(Protocol):
    """What the loop asks now and then."""

    def run(self, engine: Engine) -> dict[str, float]:
        """Figures of the model as it is, equal on every rank; finite ones only."""
        ...


@dataclass(frozen=True, slots=True)
class Surprise:
    """Sums over predicted tokens; of text are those that stand for bytes, special tokens left out."""

    nats: float
    tokens: float
    text_nats: float
    text_bytes: float

    def figures(self, ending: str = "") -> dict[str, float]:
        """``val_loss`` and ``val_bits_per_byte``, the finite ones; ``ending`` is put to their names."""
        row = {}
        if self.tokens:
            row[f"val_loss{ending}"] = self.nats / self.tokens
        if self.text_bytes:
            row[f"val_bits_per_byte{ending}"] = self.text_nats / math.log(2) / self.text_bytes
        return {name: value for name, value in row.items() if math.isfinite(value)}


class Validation:
    """Scores the same held-out batches each time it is asked.

    ``val_loss`` is the mean negative log-probability (nats) over all predicted tokens. ``val_bits_per_byte`` is the
    sum of nats over ln 2 times the UTF-8 bytes of the predicted tokens; special tokens stand for no bytes, so neither
    their bytes nor their nats count there (as in nanochat's ``loss_eval.py``).
    """

    def __init__(self, batches: Callable[[], Iterable[Batch]], token_bytes: Sequence[int]) -> None:
        self._batches = batches
        self._bytes = torch.tensor(token_bytes, dtype=torch.int64)

    def run(self, engine: Engine) -> dict[str, float]:
        """Every rank scores all batches and comes to the same figures."""
        return self.surprise(engine).figures()

    def surprise(self, engine: Engine) -> Surprise:
        """What the figures are made of."""
        nats = count = text_nats = text_bytes = 0.0
        for batch, out in engine.score(iter(self._batches()), frozenset({"logprob"})):
            assert out.logprob is not None, "a module answers what it is asked"
            targets, weights = batch.targets.cpu(), batch.weights.cpu()
            predicted = (targets >= 0) & (weights > 0)
            surprise = -out.logprob.detach().cpu().double()[predicted]
            lengths = self._bytes[targets[predicted]]
            nats += float(surprise.sum())
            count += int(predicted.sum())
            text_nats += float(surprise[lengths > 0].sum())
            text_bytes += int(lengths.sum())
        return Surprise(nats, count, text_nats, text_bytes)


class MixedValidation:
    """Held-out loss of a mixture: of each source (``val_loss_NAME``, ``val_bits_per_byte_NAME``), and of the held-out
    text of all as one text: each source counts as the tokens that it holds out, however many of them were scored."""

    def __init__(self, sources: Mapping[str, Validation], tokens: Mapping[str, int]) -> None:
        """``tokens``: what each source holds out in all."""
        self._sources = sources
        self._tokens = tokens

    def run(self, engine: Engine) -> dict[str, float]:
        """Every rank scores all batches and comes to the same figures."""
        found = {name: source.surprise(engine) for name, source in self._sources.items()}
        scales = {name: self._tokens[name] / one.tokens for name, one in found.items() if one.tokens}
        row = Surprise(
            *(
                sum(scale * getattr(found[name], part.name) for name, scale in scales.items())
                for part in dataclasses.fields(Surprise)
            )
        ).figures()
        for name, one in found.items():
            row |= one.figures(f"_{name}")
        return row


class RowValidation:
    """The objective's own loss on held-out rows (``val_loss``: the sum over its terms of sum / total), and its metrics
    (``val_accuracy``, ...)."""

    def __init__(self, batches: Callable[[], Iterable[Batch]], objective: Objective) -> None:
        self._batches = batches
        self._objective = objective

    def run(self, engine: Engine) -> dict[str, float]:
        """Every rank scores all batches and comes to the same figures."""
        shared = self._shared(engine)
        terms: dict[str, float] = defaultdict(float)
        totals: dict[str, float] = defaultdict(float)
        metrics: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for batch, out in engine.score(iter(self._batches()), self._objective.asks):
            for name, amount in self._objective.normalizers(batch).items():
                totals[name] += amount
            loss = self._objective.loss(out, batch, shared)
            for name, term in loss.terms.items():
                terms[name] += float(term)
            for name, (amount, count) in loss.metrics.items():
                metrics[name][0] += amount
                metrics[name][1] += count
        row = {f"val_{name}": amount / count for name, (amount, count) in metrics.items() if count}
        row["val_loss"] = sum(term / (totals[name] or 1.0) for name, term in terms.items())
        return {name: value for name, value in row.items() if math.isfinite(value)}

    def _shared(self, engine: Engine) -> Mapping[str, Any]:
        """What an optional ``prepare`` sums up over the held-out rows."""
        prepare = getattr(self._objective, "prepare", None)
        shared: dict[str, Any] = {}
        if prepare is not None:
            for batch, out in engine.score(iter(self._batches()), self._objective.asks):
                for name, amount in prepare(out, batch).items():
                    shared[name] = shared[name] + amount if name in shared else amount
        return shared
