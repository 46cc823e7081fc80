"""Next-token prediction: the mean negative log-probability of every token after the first.

With ``z_loss`` c, each token also costs c * (log Z)^2, Z the denominator of the softmax (Chowdhery et al. 2022,
PaLM, arXiv:2204.02311, section 5).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lmgraft.seams.architecture import Outputs
from lmgraft.seams.data_source import Document
from lmgraft.seams.objective import Batch, Example, Loss
from lmgraft.seams.tokenizer import TextTokenizer, first_id

from lmgraft_causal_lm.plugin import CausalLMConfig

__all__ = ["CausalLM"]


class CausalLM:
    """Implements :class:`lmgraft.seams.objective.Objective`."""

    def __init__(self, config: CausalLMConfig) -> None:
        self.z_loss = config.z_loss
        self.asks = frozenset({"logprob", "logsumexp"} if config.z_loss > 0 else {"logprob"})

    def columns(self) -> frozenset[str]:
        return frozenset({"text"})

    def encode(self, document: Document, tokenizer: TextTokenizer) -> list[Example]:
        """The token that a document begins with (the end token in models made here), the text, the end token."""
        if not document.text:
            return []
        (ids,) = tokenizer.encode_batch([document.text])
        tokens = [first_id(tokenizer), *ids, tokenizer.end_id]
        return [Example(tokens=tokens, weights=[0.0] + [1.0] * (len(tokens) - 1))]

    def normalizers(self, batch: Batch) -> dict[str, float]:
        """``tokens``: the weights of all predicted tokens."""
        return {"tokens": float(_weights(batch).sum(dtype=torch.float64))}

    def loss(self, out: Outputs, batch: Batch, shared: Mapping[str, Any]) -> Loss:
        """The term ``tokens``; with z-loss also the metric ``nll``, which leaves that out."""
        if out.logprob is None:
            raise ValueError("causal_lm asks for logprob and did not get it")
        weights = _weights(batch)
        term = -(out.logprob * weights).sum()
        if self.z_loss == 0:
            return Loss({"tokens": term})
        if out.logsumexp is None:
            raise ValueError("causal_lm with z_loss asks for logsumexp and did not get it")
        drift = (out.logsumexp.square() * weights).sum()
        nll, count = torch.stack([term.detach(), weights.sum()]).tolist()
        return Loss({"tokens": term + self.z_loss * drift}, {"nll": (nll, count)})


def _weights(batch: Batch) -> torch.Tensor:
    """Where there is no target nothing counts, whatever its weight."""
    return batch.weights * (batch.targets >= 0)
