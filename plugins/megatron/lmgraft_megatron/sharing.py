"""What ranks tell one another: flags, sums, gradients, whole tensors, answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from lmgraft.seams.architecture import Outputs
from torch import distributed

from lmgraft_megatron.layout import Layout
from lmgraft_megatron.shards import Shard

__all__ = ["add_up", "everyone", "gather_objects", "sum_over", "whole_tensors", "with_answers"]

#: Gradients are summed in pieces of about this many elements: fewer collectives, little memory.
BUCKET = 16 << 20


def gather_objects(content: Any) -> list[Any]:
    """One small object from every rank, in the order of the ranks; the same list on each."""
    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, content)
    return found


def everyone(flag: bool, device: torch.device) -> bool:
    """True everywhere where ``flag`` is true anywhere."""
    votes = torch.tensor([int(flag)], device=device)
    distributed.all_reduce(votes, distributed.ReduceOp.MAX)
    return bool(votes.item())


def add_up(parts: Iterable[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Sums by name, in order, so that every rank that adds the same parts gets the same bits."""
    total: dict[str, Any] = {}
    for part in parts:
        for name, amount in (part or {}).items():
            total[name] = total[name] + amount if name in total else amount
    return total


def sum_over(tensors: Sequence[torch.Tensor], group: Any) -> None:
    """Sums each tensor over the ranks of ``group``, in place."""
    if group is None or group.size() == 1:
        return
    for bucket in _buckets(tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        distributed.all_reduce(flat, group=group)
        for tensor, part in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
            tensor.copy_(part.view_as(tensor))


def _buckets(tensors: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    bucket: list[torch.Tensor] = []
    filled = 0
    for tensor in tensors:
        if bucket and (filled + tensor.numel() > BUCKET or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, filled = [], 0
        bucket.append(tensor)
        filled += tensor.numel()
    if bucket:
        yield bucket


def whole_tensors(
    names: Mapping[str, tuple[torch.Size, int]], held: Mapping[str, tuple[Shard, torch.Tensor]], layout: Layout
) -> dict[str, torch.Tensor]:
    """Whole canonical tensors, on the main rank and on the CPU; empty on the others. Collective.

    ``names``: canonical name -> whole shape and owning stage, in one order on every rank. ``held``: this rank's shards
    and what of them is asked for (the weights, gradients, moments), shaped as the shards.
    """
    found: dict[str, torch.Tensor] = {}
    if layout.data[0] != 0:
        return found
    for name, (shape, stage) in names.items():
        whole = None
        if layout.stage == stage:
            whole = _of_stage(shape, held.get(name), layout)
        leader = layout.stage_leader(stage)
        if layout.main and leader != 0:
            whole = torch.empty(shape, dtype=torch.float32, device=layout.device)
            distributed.recv(whole, leader)
        elif distributed.get_rank() == leader and leader != 0:
            assert whole is not None, "a leader has the tensors of its stage"
            distributed.send(whole, 0)
        if layout.main:
            assert whole is not None, "the main rank gets every tensor"
            found[name] = whole.cpu()
    return found


def _of_stage(shape: torch.Size, held: tuple[Shard, torch.Tensor] | None, layout: Layout) -> torch.Tensor:
    """The whole tensor on every tensor-parallel rank of its stage; ranks without rows of it hold none."""
    dim = None if held is None else held[0].dim
    told = [(-1, 0) if held is None or dim is None else (dim, held[1].shape[dim])]
    if layout.tensor > 1:
        told = told * layout.tensor
        distributed.all_gather_object(told, told[0], group=layout.groups.tp)
    split, width = (max(column) for column in zip(*told, strict=True))
    if split < 0:
        assert held is not None, "a tensor that is not split lies on every rank"
        return held[1].detach().to(layout.device, torch.float32).contiguous()
    # Equal pieces for the collective: some ranks hold fewer rows of a vocabulary, or none.
    piece = torch.zeros((*shape[:split], width, *shape[split + 1 :]), dtype=torch.float32, device=layout.device)
    if held is not None:
        piece.narrow(split, 0, held[1].shape[split]).copy_(held[1].detach())
    pieces = [torch.empty_like(piece) for _ in range(layout.tensor)]
    distributed.all_gather(pieces, piece, group=layout.groups.tp)
    return torch.cat([one.narrow(split, 0, rows) for one, (_, rows) in zip(pieces, told, strict=True)], split)


def with_answers(
    out: Outputs | None,
    asks: frozenset[str],
    like: torch.Tensor,
    targets: torch.Tensor | None,
    size: int,
    layout: Layout,
) -> Outputs:
    """The last stage's answers on every stage. ``like`` (B, T) is any tensor of the batch, ``size`` the vocabulary."""
    if layout.pipeline == 1:
        assert out is not None, "the only stage is the last one"
        return out
    shared = Outputs()
    for ask in sorted(asks):
        tensor = _room(ask, like, targets, size, layout.device)
        if layout.last:
            assert out is not None, "the last stage answers"
            tensor.copy_(getattr(out, ask))
        distributed.broadcast(tensor, layout.last_global_rank, group=layout.groups.pp)
        setattr(shared, ask, tensor.bool() if ask == "greedy" else tensor)
    return shared


def _room(ask: str, like: torch.Tensor, targets: torch.Tensor | None, size: int, device: torch.device) -> torch.Tensor:
    shape: Sequence[int] = like.shape
    if ask in ("logprob", "greedy"):
        assert targets is not None, "these are asked of targets"
        shape = targets.shape
    elif ask == "next_logits":
        shape = (like.shape[0], size)
    return torch.empty(shape, dtype=torch.uint8 if ask == "greedy" else torch.float32, device=device)
