"""Routed experts (Shazeer et al. 2017, arXiv:1701.06538; Mixtral: Jiang et al. 2024, arXiv:2401.04088)."""

from __future__ import annotations

import torch
from lmgraft.seams.architecture import DecoderSpec
from torch import nn

from lmgraft_decoders.layers import MLP, Projection

__all__ = ["Balance", "Experts"]


class Balance:
    """How evenly one forward pass used the experts, added up over the layers; padding does not count.

    Fedus et al. 2022 (arXiv:2101.03961, equation 4), over all layers together as transformers'
    ``load_balancing_loss_func`` computes it.
    """

    def __init__(self, segments: torch.Tensor | None) -> None:
        self._counts: torch.Tensor | None = None if segments is None else (segments.flatten() >= 0).float()
        self._chosen: list[torch.Tensor] = []
        self._shares: list[torch.Tensor] = []

    def add(self, shares: torch.Tensor, chosen: torch.Tensor) -> None:
        """A layer's probabilities (N, E) of the experts, and those (N, K) that the tokens went to."""
        counts = (self._counts if self._counts is not None else shares.new_ones(shares.shape[0]))[:, None]
        size = counts.sum().clamp_min(1.0)
        used = torch.zeros_like(shares).scatter_(1, chosen, 1.0)
        # Sums, not products: autocast would make those bfloat16.
        self._chosen.append((counts * used).sum(0) / size)
        self._shares.append((counts * shares).sum(0) / size)

    def loss(self) -> torch.Tensor:
        """E times the sum over experts of the share of tokens that went there times the share that should: K where
        both are even."""
        used, shares = torch.stack(self._chosen).mean(0), torch.stack(self._shares).mean(0)
        return used.shape[0] * (used * shares).sum()


class Experts(nn.Module):
    """Each token goes through the ``experts_per_token`` MLPs that the router finds likeliest, and their answers are
    added up by the router's probabilities, which are made to sum to 1."""

    def __init__(self, spec: DecoderSpec) -> None:
        super().__init__()
        self.each = spec.experts_per_token
        self.router = Projection(spec.hidden, spec.experts, bias=False)
        self.experts = nn.ModuleList(MLP(spec) for _ in range(spec.experts))

    def forward(self, x: torch.Tensor, balance: Balance | None = None) -> torch.Tensor:
        flat = x.flatten(0, -2)
        shares = torch.softmax(self.router(flat).float(), -1)
        top, chosen = shares.topk(self.each, -1)
        if balance is not None:
            balance.add(shares, chosen)
        out = self._through(flat, top / top.sum(-1, keepdim=True), chosen)
        return out.view(x.shape)

    def _through(self, flat: torch.Tensor, top: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Tokens sorted by expert, so that each expert makes one product with its tokens alone."""
        order = chosen.flatten().argsort(stable=True)
        token = order // self.each
        sizes = torch.bincount(chosen.flatten(), minlength=len(self.experts)).tolist()
        answers = []
        for expert, rows in zip(self.experts, flat[token].split(sizes), strict=True):
            # Without tokens too while it learns: replicas wait for a gradient of every parameter.
            if rows.shape[0] or torch.is_grad_enabled():
                answers.append(expert(rows))
        weighted = torch.cat(answers) * top.flatten()[order, None].to(answers[0].dtype)
        return torch.zeros_like(flat, dtype=weighted.dtype).index_add_(0, token, weighted)
