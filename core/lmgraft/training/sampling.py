"""Drawing the next token: temperature, top-k, and nucleus sampling (Holtzman et al. 2020, arXiv:1904.09751)."""

from __future__ import annotations

import torch

from lmgraft.seams.parallelism import Sampling

__all__ = ["Sampler"]


class Sampler:
    """Draws on the CPU in float32 from a generator of its own, so that one seed gives one text."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._generator = torch.Generator().manual_seed(sampling.seed)

    def draw(self, logits: torch.Tensor) -> int:
        """One id from logits (V,). Temperature 0 takes the largest, the first one of equals."""
        logits = logits.detach().float().cpu()
        if self._sampling.temperature == 0:
            return int(logits.argmax())
        probabilities = self._kept(torch.softmax(logits / self._sampling.temperature, dim=-1))
        return int(torch.multinomial(probabilities, 1, generator=self._generator))

    def _kept(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Zeroes what top-k and top-p rule out; ``multinomial`` brings the rest to a sum of 1."""
        top_k, top_p = self._sampling.top_k, self._sampling.top_p
        if top_p >= 1 and not 0 < top_k < len(probabilities):
            return probabilities
        ordered, ids = probabilities.sort(descending=True, stable=True)
        if 0 < top_k < len(ordered):
            ordered[top_k:] = 0
        if top_p < 1:
            # The token that crosses the mark stays: the smallest set whose mass reaches top_p. The mass is that of
            # what top-k left, as in transformers.
            before = ordered.cumsum(0) - ordered
            ordered[before >= top_p * ordered.sum()] = 0
        return torch.zeros_like(probabilities).scatter_(0, ids, ordered)
