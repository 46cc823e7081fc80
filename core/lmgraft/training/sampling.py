"""Drawing the next token: repetition penalty (Keskar et al. 2019, arXiv:1909.05858), temperature, top-k, and nucleus
sampling (Holtzman et al. 2020, arXiv:1904.09751), in the order in which transformers applies them.

Many texts are drawn for at once, and each has a generator of its own that gives one number a token: the token is where
the running sum of the probabilities passes that number. So a text does not depend on those beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lmgraft.seams.parallelism import Sampling

__all__ = ["Sampler", "draw"]

#: So many of the most probable tokens are looked at first where top-p alone cuts; sorting all takes milliseconds.
CANDIDATES = 256


class Sampler:
    """What drawing remembers of one text: its generator, and where there is a penalty the tokens that it holds."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int] = ()) -> None:
        self.sampling = sampling
        self.generator = torch.Generator().manual_seed(sampling.seed)
        self.seen = set(prompt) if sampling.repetition_penalty != 1 else None

    def draw(self, logits: torch.Tensor) -> int:
        """One id from logits (V,). Temperature 0 takes the largest, the first one of equals."""
        return draw(logits[None], [self])[0]


def draw(logits: torch.Tensor, samplers: Sequence[Sampler]) -> list[int]:
    """One id for each row of logits (B, V), which are left as they are. Computed in float32; on the CPU, but for what
    is greedy: that is one call on the logits' own device."""
    if all(_plain(sampler) for sampler in samplers):
        return [int(token) for token in logits.argmax(-1).tolist()]
    rows = logits.detach().float().cpu()
    if any(sampler.seen is not None for sampler in samplers):
        rows = _penalised(rows, samplers)
    tokens = rows.argmax(-1)
    drawn = [row for row, sampler in enumerate(samplers) if sampler.sampling.temperature != 0]
    if drawn:
        chosen = [samplers[row] for row in drawn]
        tokens[drawn] = _drawn(rows[drawn], chosen)
    found = [int(token) for token in tokens.tolist()]
    for token, sampler in zip(found, samplers, strict=True):
        if sampler.seen is not None:
            sampler.seen.add(token)
    return found


def _plain(sampler: Sampler) -> bool:
    return sampler.sampling.temperature == 0 and sampler.seen is None


def _penalised(rows: torch.Tensor, samplers: Sequence[Sampler]) -> torch.Tensor:
    rows = rows.clone()
    for row, sampler in zip(rows, samplers, strict=True):
        if sampler.seen:
            ids, penalty = torch.tensor(list(sampler.seen)), sampler.sampling.repetition_penalty
            held = row[ids]
            row[ids] = torch.where(held < 0, held * penalty, held / penalty)
    return torch.nan_to_num_(rows, nan=-torch.inf, neginf=-torch.inf)  # a penalty next to 0 goes beyond float32


def _drawn(logits: torch.Tensor, samplers: Sequence[Sampler]) -> torch.Tensor:
    """(R,) ids from logits (R, V), temperatures above 0."""
    settings = [sampler.sampling for sampler in samplers]
    heat = torch.tensor([[sampling.temperature] for sampling in settings], dtype=torch.float32)
    # Below the largest, and never by 0: no setting that is above 0, however small, leaves what is no number.
    below = logits - logits.amax(-1, keepdim=True)
    shares = torch.softmax(below / heat.clamp_min_(torch.finfo(torch.float32).tiny), -1)
    marks = torch.stack([torch.rand(1, generator=sampler.generator, dtype=torch.float64) for sampler in samplers])
    size = shares.shape[-1]
    cut = [row for row, sampling in enumerate(settings) if sampling.top_p < 1 or 0 < sampling.top_k < size]
    if not cut:
        return _where(shares, marks)
    tokens = torch.empty(len(settings), dtype=torch.int64)
    whole = sorted(set(range(len(settings))) - set(cut))
    if whole:
        tokens[whole] = _where(shares[whole], marks[whole])
    kept, ids = _kept(shares[cut], [settings[row] for row in cut])
    tokens[cut] = ids.gather(1, _where(kept, marks[cut])[:, None])[:, 0]
    return tokens


def _where(shares: torch.Tensor, marks: torch.Tensor) -> torch.Tensor:
    """(R,) the column in which the running sum of shares (R, N) passes ``marks`` (R, 1), which are parts of the sum."""
    sums = shares.cumsum(-1, dtype=torch.float64)
    # To the right of equals: a share of 0 adds nothing, and its column is never taken.
    return torch.searchsorted(sums, marks * sums[:, -1:], right=True)[:, 0].clamp_max_(shares.shape[-1] - 1)


def _kept(shares: torch.Tensor, settings: Sequence[Sampling]) -> tuple[torch.Tensor, torch.Tensor]:
    """The most probable shares in falling order, those that top-k and top-p rule out set to 0, and their ids.

    As in transformers, top-k keeps all that are as probable as the k-th, and the mass of which top-p is a part is that
    of what top-k left. Top-p keeps the smallest set that reaches it; of equals the lower ids come first.
    """
    size = shares.shape[-1]
    limits = torch.tensor([[min(sampling.top_k, size) or size] for sampling in settings])
    parts = torch.tensor([[sampling.top_p] for sampling in settings], dtype=torch.float32)
    # One more than asked for: only a smaller one after the last that is kept shows that all its equals were seen.
    width = max((sampling.top_k + 1 if sampling.top_k else CANDIDATES) for sampling in settings)
    while True:
        width = min(width, size)
        top, ids = _ordered(*shares.topk(width))
        least = top.gather(1, (limits - 1).clamp_max(width - 1))
        inside = (top >= least) | (limits > width)
        left = torch.where(limits < size, (top * inside).sum(-1, keepdim=True), 1.0)
        kept = inside & ((top.cumsum(-1) - top < parts * left) | (parts >= 1))
        kept[:, 0] = True  # a part so small that it is 0 in float32
        last = top.gather(1, kept.sum(-1, keepdim=True) - 1)
        if width == size or bool((last > top[:, -1:]).all()):
            return top * kept, ids
        width *= 16


def _ordered(top: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Falling, and of equals the lower id first: ``topk`` gives those in any order."""
    ids, order = ids.sort()
    top, order = top.gather(1, order).sort(descending=True, stable=True)
    return top, ids.gather(1, order)
