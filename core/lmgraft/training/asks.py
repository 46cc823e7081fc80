"""What an objective may ask of every position, computed without holding logits of all positions with their gradients.

An architecture's head calls :func:`compute`. All five quantities are functions of one row of logits z with
log-sum-exp l and probabilities p = exp(z - l), and so is their gradient with respect to z (g is the gradient that
arrives at each quantity, e_y the one-hot row of target y, V the size of the vocabulary)::

    logprob_y  = z_y - l        g (e_y - p)
    logsumexp  = l              g p
    vocab_mean = mean(z) - l    g (1/V - p)
    entropy    = l - p.z        -g p (log p + entropy)
    greedy     = argmax z == y  none

Positions go through in chunks. Where the probabilities of all positions together are small they are kept for the
backward pass; otherwise each chunk's logits are computed again, as gradient checkpointing does (Chen et al. 2016,
"Training Deep Nets with Sublinear Memory Cost"): one matrix product more in four, memory of one chunk.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from lmgraft.errors import Fault
from lmgraft.seams.architecture import Outputs
from lmgraft.training.products import product

__all__ = ["COMPUTED", "compute"]

#: The asks that this module answers; the others are the architecture's own.
COMPUTED = frozenset({"logprob", "logsumexp", "entropy", "vocab_mean", "greedy"})

#: Logits of one chunk take at most this much memory in float32.
CHUNK_BYTES = 16 << 20
#: Up to this size the probabilities of all positions are kept for the backward pass.
KEEP_BYTES = 128 << 20

Answers = tuple["torch.Tensor | None", ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    asks: frozenset[str]
    chunk: int
    keep: bool


def compute(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor | None,
    asks: Collection[str],
    chunk: int | None = None,
) -> Outputs:
    """Answers ``asks`` (of :data:`COMPUTED`) for every position of ``hidden``.

    ``hidden`` (..., D) and ``weight`` (V, D) are multiplied in autocast's type where autocast is on, otherwise in
    their own; everything after the product is float32 (float64 for float64). ``targets`` (...) or (..., K) int64:
    a negative one has log-probability 0, is never greedy and sends no gradient. ``chunk`` is the number of positions
    at a time; None takes what fits :data:`CHUNK_BYTES`. Results have the shape of ``targets`` (logprob, greedy) or of
    ``hidden`` without its last dimension. Raises :class:`lmgraft.errors.Fault` where targets are missing.
    """
    wanted = frozenset(asks)
    if unknown := wanted - COMPUTED:
        raise Fault(f"cannot compute {', '.join(sorted(unknown))} from logits; known: {', '.join(sorted(COMPUTED))}")
    if not wanted:
        return Outputs()
    if targets is None and wanted & {"logprob", "greedy"}:
        raise Fault("logprob and greedy were asked for without targets")
    lead = hidden.shape[:-1]
    shape = targets.shape if targets is not None else (*lead, 0)
    flat = hidden.reshape(-1, hidden.shape[-1])
    labels = targets.reshape(flat.shape[0], -1) if targets is not None else flat.new_zeros((flat.shape[0], 0)).long()
    rows = _asked_rows(labels, wanted)
    if rows is not None:
        flat, labels = flat.index_select(0, rows), labels.index_select(0, rows)
    answers = _answer(flat, weight, labels, wanted, chunk)
    if rows is not None:
        count = lead.numel()
        answers = tuple(None if part is None else _spread(part, rows, count) for part in answers)
    logprob, logsumexp, entropy, vocab_mean, greedy = answers
    return Outputs(
        logprob=None if logprob is None else logprob.view(shape),
        logsumexp=None if logsumexp is None else logsumexp.view(lead),
        entropy=None if entropy is None else entropy.view(lead),
        vocab_mean=None if vocab_mean is None else vocab_mean.view(lead),
        greedy=None if greedy is None else greedy.view(shape),
    )


def _answer(
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, asks: frozenset[str], chunk: int | None
) -> Answers:
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        kind = torch.get_autocast_dtype(device)
        hidden, weight = hidden.to(kind), weight.to(kind)
    row = 4 * weight.shape[0]
    plan = _Plan(
        asks=asks,
        chunk=chunk or max(1, CHUNK_BYTES // row),
        keep=torch.is_grad_enabled() and hidden.shape[0] * row <= KEEP_BYTES,
    )
    answers: Answers = _Head.apply(hidden, weight, labels, plan)  # type: ignore[no-untyped-call]
    return answers


def _asked_rows(labels: torch.Tensor, asks: frozenset[str]) -> torch.Tensor | None:
    """The positions that have a target, where only those matter and they are not all; prompts of an instruction
    tuning then cost no logits. None: take all. (Under torch.compile a size that depends on data breaks the graph.)"""
    if asks - {"logprob", "greedy"} or labels.shape[1] == 0 or torch.compiler.is_compiling():
        return None
    asked = (labels >= 0).any(1)
    rows = asked.nonzero()[:, 0]
    return rows if rows.numel() < labels.shape[0] else None


def _spread(part: torch.Tensor, rows: torch.Tensor, count: int) -> torch.Tensor:
    return part.new_zeros((count, *part.shape[1:])).index_copy(0, rows, part)


def _spans(total: int, chunk: int) -> Iterator[slice]:
    for start in range(0, total, chunk):
        yield slice(start, min(start + chunk, total))


def _logits(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Float32 or wider, and a tensor of its own: callers overwrite it."""
    logits = product(hidden, weight)
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


class _Head(torch.autograd.Function):
    """(hidden (N, D), weight (V, D), labels (N, K), plan) -> the five answers, None where not asked."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, plan: _Plan) -> Answers:
        ctx.set_materialize_grads(False)
        total, asks = hidden.shape[0], plan.asks
        kind = torch.promote_types(hidden.dtype, torch.float32)
        lse = hidden.new_empty(total, dtype=kind)
        logprob = hidden.new_empty(labels.shape, dtype=kind) if "logprob" in asks else None
        entropy = hidden.new_empty(total, dtype=kind) if "entropy" in asks else None
        mean = hidden.new_empty(total, dtype=kind) if "vocab_mean" in asks else None
        greedy = torch.empty_like(labels, dtype=torch.bool) if "greedy" in asks else None
        kept: list[torch.Tensor] = []
        for span in _spans(total, plan.chunk):
            logits = _logits(hidden[span], weight)
            top = logits.amax(1)
            if greedy is not None:
                greedy[span] = logits.argmax(1, keepdim=True) == labels[span]
            if logprob is not None:
                logprob[span] = logits.gather(1, labels[span].clamp(min=0))
            if mean is not None:
                mean[span] = logits.mean(1)
            shares = torch.softmax(logits, 1)
            # The largest probability is at least 1/V: its logarithm is safe where a target's may be log 0.
            lse[span] = top - shares.amax(1).log_()
            if entropy is not None:
                entropy[span] = -torch.special.xlogy(shares, shares).sum(1)
            if plan.keep:
                kept.append(shares)
        if logprob is not None:
            logprob = (logprob - lse[:, None]).masked_fill_(labels < 0, 0.0)
        if mean is not None:
            mean = mean - lse
        if greedy is not None:
            ctx.mark_non_differentiable(greedy)
        ctx.save_for_backward(hidden, weight, labels, lse, entropy, *kept)
        ctx.plan = plan
        return logprob, lse.clone() if "logsumexp" in asks else None, entropy, mean, greedy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        hidden, weight, labels, lse, entropy, *kept = ctx.saved_tensors
        need_hidden, need_weight = ctx.needs_input_grad[:2]
        d_hidden = torch.empty_like(hidden) if need_hidden else None
        # Sums over chunks are float32: in bfloat16 the small late addends would be lost.
        d_weight = torch.zeros_like(weight, dtype=lse.dtype) if need_weight else None
        for index, span in enumerate(_spans(hidden.shape[0], ctx.plan.chunk)):
            shares = kept[index] if kept else _logits(hidden[span], weight).sub_(lse[span, None]).exp_()
            slope = _slope(shares, labels[span], None if entropy is None else entropy[span], _cut(grads, span))
            slope = slope.to(hidden.dtype)
            if d_hidden is not None:
                d_hidden[span] = product(slope, weight.T)
            if d_weight is not None:
                d_weight.add_(product(slope.T, hidden[span].T))
        return d_hidden, None if d_weight is None else d_weight.to(weight.dtype), None, None


def _cut(grads: tuple[torch.Tensor | None, ...], span: slice) -> list[torch.Tensor | None]:
    return [None if grad is None else grad[span] for grad in grads]


def _slope(
    shares: torch.Tensor, labels: torch.Tensor, entropy: torch.Tensor | None, grads: list[torch.Tensor | None]
) -> torch.Tensor:
    """The gradient (n, V) with respect to a chunk's logits, by the table at the head of this module."""
    g_logprob, g_lse, g_entropy, g_mean, _ = grads
    scale = shares.new_zeros(shares.shape[0])
    if g_logprob is not None:
        g_logprob = g_logprob.masked_fill(labels < 0, 0.0)
        scale = scale - g_logprob.sum(1)
    if g_lse is not None:
        scale = scale + g_lse
    if g_mean is not None:
        scale = scale - g_mean
    if g_entropy is not None and entropy is not None:
        surprise = torch.special.xlogy(shares, shares).mul_(g_entropy[:, None])
        slope = (shares * (scale - g_entropy * entropy)[:, None]).sub_(surprise)
    else:
        slope = shares * scale[:, None]
    if g_logprob is not None:
        slope.scatter_add_(1, labels.clamp(min=0), g_logprob)
    if g_mean is not None:
        slope.add_((g_mean / shares.shape[1])[:, None])
    return slope
