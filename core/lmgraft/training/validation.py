"""Held-out loss while training: nats a token, and bits a byte, which compares across tokenizers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch

from lmgraft.seams.objective import Batch
from lmgraft.seams.parallelism import Engine

__all__ = ["Validation"]


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
        row = {"val_loss": nats / count} if count else {}
        if text_bytes:
            row["val_bits_per_byte"] = text_nats / math.log(2) / text_bytes
        return {name: value for name, value in row.items() if math.isfinite(value)}
