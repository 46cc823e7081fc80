"""What an objective may ask, on a vocabulary that is split over tensor-parallel ranks.

The formulas are those of :mod:`lmgraft.training.asks`; sums and maxima over the vocabulary go over ranks too. Each
rank holds the logits of its own rows, chunk by chunk, so all positions' logits are never there at once. Two
collectives a call: one of maxima, one of sums. Padded rows are cut off before the product, which is the same as
logits of minus infinity. After Megatron's vocab-parallel cross entropy (Shoeybi et al. 2019, arXiv:1909.08053).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from lmgraft.errors import Fault
from lmgraft.seams.architecture import Outputs
from lmgraft.training import asks as whole
from torch import distributed
from torch.autograd.function import once_differentiable
from torch.distributed import ReduceOp

__all__ = ["Vocabulary", "compute"]

#: Logits of one chunk, and those that are kept for the backward pass, take at most this much memory.
CHUNK_BYTES = 16 << 20
KEEP_BYTES = 128 << 20


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """This rank's rows: ``count`` from ``start`` on, of ``size`` in all."""

    size: int
    start: int
    count: int
    group: Any
    """The tensor-parallel ranks."""

    @property
    def split(self) -> bool:
        return bool(self.group.size() > 1)


def compute(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor | None, asks: frozenset[str], rows: Vocabulary
) -> Outputs:
    """Answers ``asks`` for ``hidden`` (B, T, D) with this rank's ``weight`` (rows, padding included; D).

    The gradient that goes back to ``hidden`` is this rank's part: the caller sums it over the tensor-parallel ranks.
    ``targets`` (B, T) or (B, T, K) int64; negative ones have log-probability 0 and are never greedy.
    """
    weight = weight[: rows.count]
    if not rows.split:
        return whole.compute(hidden, weight, targets, asks)
    if unknown := asks - whole.COMPUTED:
        raise Fault(f"cannot compute {', '.join(sorted(unknown))} from logits")
    if targets is None and asks & {"logprob", "greedy"}:
        raise Fault("logprob and greedy were asked for without targets")
    if not asks:
        return Outputs()
    lead = hidden.shape[:-1]
    flat = hidden.reshape(-1, hidden.shape[-1])
    shape = (*lead, 0) if targets is None else targets.shape
    labels = flat.new_zeros((flat.shape[0], 0)).long() if targets is None else targets.reshape(flat.shape[0], -1)
    asked = _asked(labels, asks)
    if asked is not None:
        flat, labels = flat.index_select(0, asked), labels.index_select(0, asked)
    answers = _Split.apply(flat, weight, labels, asks, rows)  # type: ignore[no-untyped-call]
    if asked is not None:
        answers = [None if part is None else _spread(part, asked, lead.numel()) for part in answers]
    logprob, lse, entropy, mean, greedy = answers
    return Outputs(
        logprob=None if logprob is None else logprob.view(shape),
        logsumexp=None if lse is None else lse.view(lead),
        entropy=None if entropy is None else entropy.view(lead),
        vocab_mean=None if mean is None else mean.view(lead),
        greedy=None if greedy is None else greedy.view(shape),
    )


def _asked(labels: torch.Tensor, asks: frozenset[str]) -> torch.Tensor | None:
    """The positions with a target, where only those matter; None: all. The same on every rank, as the targets are."""
    if asks - {"logprob", "greedy"} or labels.shape[1] == 0:
        return None
    asked = (labels >= 0).any(1).nonzero()[:, 0]
    return asked if asked.numel() < labels.shape[0] else None


def _spread(part: torch.Tensor, asked: torch.Tensor, count: int) -> torch.Tensor:
    return part.new_zeros((count, *part.shape[1:])).index_copy(0, asked, part)


def _spans(total: int, columns: int) -> Iterator[slice]:
    chunk = max(1, CHUNK_BYTES // (4 * max(1, columns)))
    for start in range(0, total, chunk):
        yield slice(start, min(start + chunk, total))


def _logits(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (hidden @ weight.T).float()


@dataclass(slots=True)
class _Parts:
    """What one rank knows of each row of logits z, relative to the largest of its own."""

    top: torch.Tensor
    where: torch.Tensor
    """The id of the first largest."""
    mass: torch.Tensor
    """Sum of exp(z - top)."""
    moment: torch.Tensor
    """Sum of exp(z - top) (z - top)."""
    total: torch.Tensor
    """Sum of z."""
    named: torch.Tensor
    """(N, K) logits of the labels that this rank holds, else 0."""


def _local(hidden: torch.Tensor, weight: torch.Tensor, mine: torch.Tensor, rows: Vocabulary, kept: Any) -> _Parts:
    count = hidden.shape[0]
    blank = torch.zeros(count, device=hidden.device)
    lowest = torch.full_like(blank, torch.finfo(torch.float32).min)
    far = torch.full((count,), rows.size, dtype=torch.int64, device=hidden.device)
    parts = _Parts(lowest, far, blank, blank.clone(), blank.clone(), torch.zeros(mine.shape, device=hidden.device))
    if rows.count == 0:
        return parts
    for span in _spans(count, rows.count):
        logits = _logits(hidden[span], weight)
        top, where = logits.max(1)
        parts.top[span], parts.where[span] = top, where + rows.start
        parts.total[span] = logits.sum(1)
        parts.named[span] = logits.gather(1, mine[span].clamp(min=0)).masked_fill_(mine[span] < 0, 0.0)
        if kept is not None:
            kept.append(logits)
        shifted = logits - top[:, None]
        masses = shifted.exp()
        parts.mass[span] = masses.sum(1)
        parts.moment[span] = (masses * shifted).sum(1)
    return parts


class _Split(torch.autograd.Function):
    """(hidden (N, D), weight (rows, D), labels (N, K), asks, rows) -> the five answers, None where not asked."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        labels: torch.Tensor,
        asks: frozenset[str],
        rows: Vocabulary,
    ) -> tuple[torch.Tensor | None, ...]:
        ctx.set_materialize_grads(False)
        held = (labels >= rows.start) & (labels < rows.start + rows.count)
        mine = torch.where(held, labels - rows.start, -1)
        keep = any(ctx.needs_input_grad) and 4 * hidden.shape[0] * rows.count <= KEEP_BYTES
        kept: list[torch.Tensor] = []
        parts = _local(hidden, weight, mine, rows, kept if keep else None)
        top = parts.top.clone()
        distributed.all_reduce(top, ReduceOp.MAX, group=rows.group)
        drop = parts.top - top
        factor = drop.exp()
        sums = torch.stack((factor * parts.mass, factor * (parts.moment + drop * parts.mass), parts.total), 1)
        sums = torch.cat((sums, parts.named), 1)
        distributed.all_reduce(sums, group=rows.group)
        mass, moment, total, named = sums[:, 0], sums[:, 1], sums[:, 2], sums[:, 3:]
        lse = top + mass.log()
        entropy = mass.log() - moment / mass
        greedy = None
        if "greedy" in asks:
            where = torch.where(parts.top == top, parts.where, rows.size)
            distributed.all_reduce(where, ReduceOp.MIN, group=rows.group)
            greedy = where[:, None] == labels
            ctx.mark_non_differentiable(greedy)
        logprob = (named - lse[:, None]).masked_fill(labels < 0, 0.0) if "logprob" in asks else None
        mean = total / rows.size - lse if "vocab_mean" in asks else None
        ctx.save_for_backward(hidden, weight, mine, labels, lse, entropy, *kept)
        ctx.rows = rows
        asked = entropy.clone() if "entropy" in asks else None
        return logprob, lse.clone() if "logsumexp" in asks else None, asked, mean, greedy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        hidden, weight, mine, labels, lse, entropy, *kept = ctx.saved_tensors
        need_hidden, need_weight = ctx.needs_input_grad[:2]
        d_hidden = torch.zeros_like(hidden) if need_hidden else None
        d_weight = torch.zeros_like(weight, dtype=torch.float32) if need_weight else None
        spans = _spans(hidden.shape[0], ctx.rows.count) if ctx.rows.count else iter(())
        for index, span in enumerate(spans):
            logits = kept[index] if kept else _logits(hidden[span], weight)
            surprise = logits - lse[span, None]
            cut = [None if grad is None else grad[span] for grad in grads]
            slope = _slope(surprise, mine[span], labels[span], entropy[span], cut, ctx.rows.size).to(hidden.dtype)
            if d_hidden is not None:
                d_hidden[span] = slope @ weight
            if d_weight is not None:
                d_weight.add_((slope.T @ hidden[span]).float())
        return d_hidden, None if d_weight is None else d_weight.to(weight.dtype), None, None, None


def _slope(
    logshares: torch.Tensor,
    mine: torch.Tensor,
    labels: torch.Tensor,
    entropy: torch.Tensor,
    grads: list[torch.Tensor | None],
    size: int,
) -> torch.Tensor:
    """The gradient with respect to this rank's logits, by the table at the head of ``lmgraft.training.asks``."""
    g_logprob, g_lse, g_entropy, g_mean, _ = grads
    scale = torch.zeros_like(entropy)
    if g_logprob is not None:
        g_logprob = g_logprob.masked_fill(labels < 0, 0.0)
        scale = scale - g_logprob.sum(1)
    if g_lse is not None:
        scale = scale + g_lse
    if g_mean is not None:
        scale = scale - g_mean
    shares = logshares.exp()
    slope = shares * scale[:, None]
    if g_entropy is not None:
        slope.sub_(shares * (logshares + entropy[:, None]) * g_entropy[:, None])
    if g_logprob is not None:
        slope.scatter_add_(1, mine.clamp(min=0), g_logprob.masked_fill(mine < 0, 0.0))
    if g_mean is not None:
        slope.add_((g_mean / size)[:, None])
    return slope
