"""Canonical tensors in Megatron's parameters: which rows of which, and how they lie there.

Megatron keeps q, k and v in one matrix, group by group of the key heads (the queries of a group, its key, its value),
gate and up projection one below the other, and the vocabulary padded to equal parts. A :class:`Shard` is this rank's
part of one canonical tensor and a window onto the place where it lies; copying through the window loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from lmgraft.seams.architecture import DecoderSpec
from torch import nn

from lmgraft_megatron.layout import Layout

__all__ = ["Shard", "freeze", "shards", "stage_of"]

Window = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """This rank's part of the canonical tensor ``name``."""

    name: str
    parameter: nn.Parameter
    """Megatron's, which holds it."""
    window: Window
    """A tensor shaped as ``parameter`` -> the view of it that is this shard, in any shape."""
    shape: tuple[int, ...]
    """The shard's own shape."""
    dim: int | None = None
    """The dimension that is split over tensor-parallel ranks; None: every one of them holds the whole."""
    start: int = 0
    """Where in ``dim`` the shard begins."""
    duplicate: bool = False
    """A second copy, on the last stage, of the embedding matrix that the head is tied to."""

    def take(self, like: torch.Tensor) -> torch.Tensor:
        """The shard of ``like`` (the parameter, or its gradient): a view where memory allows, else a copy."""
        return self.window(like).reshape(self.shape)

    def put(self, like: torch.Tensor, shard: torch.Tensor) -> None:
        """The way back: copies ``shard`` into its place in ``like``."""
        view = self.window(like)
        view.copy_(shard.reshape(view.shape))

    def cut(self, whole: torch.Tensor) -> torch.Tensor:
        """This rank's part of the whole canonical tensor."""
        return whole if self.dim is None else whole.narrow(self.dim, self.start, self.shape[self.dim])

    def beyond(self, first: int) -> Shard:
        """What of it lies in the whole tensor's rows from ``first`` on, as a shard of those; it may be empty."""
        skipped = self.below(first)
        if not first:
            return self
        rows = self.shape[0] - skipped
        window, start = self.window, max(self.start, first) - first
        return replace(
            self,
            window=lambda like: window(like).narrow(0, skipped, rows),
            shape=(rows, *self.shape[1:]),
            start=start,
        )

    def below(self, first: int) -> int:
        """How many of its rows lie before the whole tensor's row ``first``."""
        return min(max(first - self.start, 0), self.shape[0])


def stage_of(name: str, spec: DecoderSpec, pipeline: int) -> int:
    """The pipeline stage that owns a canonical tensor."""
    if name.startswith("model.layers."):
        return int(name.split(".")[2]) // (spec.layers // pipeline)
    return 0 if name.startswith("model.embed_") else pipeline - 1


def shards(model: Any, spec: DecoderSpec, vocab_size: int, layout: Layout) -> list[Shard]:
    """All of this rank, in a fixed order; empty ones (padding only) are left out."""
    return [shard for shard in _all(model, spec, vocab_size, layout) if 0 not in shard.shape]


def freeze(model: Any, spec: DecoderSpec, vocab_size: int, layout: Layout, trained: Collection[str]) -> None:
    """Only parameters that hold part of a canonical tensor in ``trained`` ask for gradients.

    By name and not by what this rank holds: the ranks of a stage go through the same backward pass, or wait for one
    another for ever.
    """
    model.requires_grad_(False)
    for shard in _all(model, spec, vocab_size, layout):
        if shard.name in trained:
            shard.parameter.requires_grad_(True)


def _all(model: Any, spec: DecoderSpec, vocab_size: int, layout: Layout) -> Iterator[Shard]:
    if layout.first:
        yield _vocabulary("model.embed_tokens.weight", model.embedding.word_embeddings.weight, vocab_size, layout)
        if spec.positions == "learned":
            yield _whole("model.embed_positions.weight", model.embedding.position_embeddings.weight)
    offset = layout.stage * (spec.layers // layout.pipeline)
    for index, layer in enumerate(model.decoder.layers):
        yield from _layer(f"model.layers.{offset + index}", layer, spec, layout)
    if layout.last:
        yield from _norm("model.norm", model.decoder.final_layernorm)
        if not spec.tied:
            yield _vocabulary("lm_head.weight", model.output_layer.weight, vocab_size, layout)
        elif not layout.first:
            yield _vocabulary("model.embed_tokens.weight", model.output_layer.weight, vocab_size, layout, True)


def _layer(prefix: str, layer: Any, spec: DecoderSpec, layout: Layout) -> Iterator[Shard]:
    attention, mlp = layer.self_attention, layer.mlp
    yield from _norm(f"{prefix}.input_layernorm", _before(layer.input_layernorm, attention.linear_qkv))
    yield from _qkv(f"{prefix}.self_attn", attention.linear_qkv, spec, layout)
    yield from _row(f"{prefix}.self_attn.o_proj", attention.linear_proj, layout)
    yield from _norm(f"{prefix}.post_attention_layernorm", _before(layer.pre_mlp_layernorm, mlp.linear_fc1))
    yield from _fc1(f"{prefix}.mlp", mlp.linear_fc1, spec, layout)
    yield from _row(f"{prefix}.mlp.down_proj", mlp.linear_fc2, layout)


def _before(norm: Any, linear: Any) -> Any:
    """The norm before a projection: a module of its own, or fused into Transformer Engine's projection."""
    return linear if getattr(linear, "layer_norm_weight", None) is not None else norm


def _norm(prefix: str, module: Any) -> Iterator[Shard]:
    """Nothing where the model has no norms."""
    for name in ("weight", "bias"):
        parameter = getattr(module, f"layer_norm_{name}", None)
        if parameter is None and not hasattr(module, "layer_norm_weight"):
            parameter = getattr(module, name, None)
        if parameter is not None:
            yield _whole(f"{prefix}.{name}", parameter)


def _whole(name: str, parameter: nn.Parameter) -> Shard:
    return Shard(name, parameter, lambda like: like, tuple(parameter.shape))


def _there(parameter: Any) -> bool:
    """Transformer Engine keeps an empty tensor where a projection has no bias."""
    return parameter is not None and parameter.numel() > 0


def _row(prefix: str, linear: Any, layout: Layout) -> Iterator[Shard]:
    """Split along the inputs; its bias is added once and held by all."""
    weight = linear.weight
    start = layout.tensor_rank * weight.shape[1]
    yield Shard(f"{prefix}.weight", weight, lambda like: like, tuple(weight.shape), 1, start)
    if _there(linear.bias):
        yield _whole(f"{prefix}.bias", linear.bias)


def _vocabulary(name: str, weight: nn.Parameter, size: int, layout: Layout, duplicate: bool = False) -> Shard:
    start = layout.tensor_rank * weight.shape[0]
    rows = max(0, min(size - start, weight.shape[0]))
    shape = (rows, weight.shape[1])
    return Shard(name, weight, lambda like: like.narrow(0, 0, rows), shape, 0, start, duplicate)


def _qkv(prefix: str, linear: Any, spec: DecoderSpec, layout: Layout) -> Iterator[Shard]:
    if spec.kv_heads < layout.tensor:
        yield from _shared_group(prefix, linear, spec, layout)
        return
    groups, each = spec.kv_heads // layout.tensor, spec.heads // spec.kv_heads
    for kind in ("weight", "bias"):
        parameter = getattr(linear, kind)
        if not _there(parameter):
            continue
        for letter, start, heads in (("q", 0, each), ("k", each, 1), ("v", each + 1, 1)):
            window = _heads(groups, each + 2, spec.head_dim, start, heads)
            rows = groups * heads * spec.head_dim
            shape = (rows, *parameter.shape[1:])
            yield Shard(f"{prefix}.{letter}_proj.{kind}", parameter, window, shape, 0, layout.tensor_rank * rows)


def _shared_group(prefix: str, linear: Any, spec: DecoderSpec, layout: Layout) -> Iterator[Shard]:
    """Fewer key heads than ranks: Megatron cuts the rows of a group evenly between the ranks that share it, wherever
    that is, and they show one another what comes out. No weight lies on two ranks; some ranks hold no key."""
    each, sharing = spec.heads // spec.kv_heads, layout.tensor // spec.kv_heads
    group, place = divmod(layout.tensor_rank, sharing)
    for kind in ("weight", "bias"):
        parameter = getattr(linear, kind)
        if not _there(parameter):
            continue
        here = place * parameter.shape[0]
        for letter, first, heads in (("q", 0, each), ("k", each, 1), ("v", each + 1, 1)):
            begin, size = first * spec.head_dim, heads * spec.head_dim
            low = min(max(begin, here), begin + size)
            rows = max(0, min(begin + size, here + parameter.shape[0]) - low)
            window = _rows(low - here if rows else 0, rows)
            start = group * size + low - begin
            yield Shard(f"{prefix}.{letter}_proj.{kind}", parameter, window, (rows, *parameter.shape[1:]), 0, start)


def _heads(groups: int, slots: int, width: int, start: int, heads: int) -> Window:
    return lambda like: like.view(groups, slots, width, *like.shape[1:]).narrow(1, start, heads)


def _fc1(prefix: str, linear: Any, spec: DecoderSpec, layout: Layout) -> Iterator[Shard]:
    names = ("gate_proj", "up_proj") if spec.gated else ("up_proj",)
    for kind in ("weight", "bias"):
        parameter = getattr(linear, kind)
        if not _there(parameter):
            continue
        rows = parameter.shape[0] // len(names)
        shape = (rows, *parameter.shape[1:])
        for index, name in enumerate(names):
            yield Shard(
                f"{prefix}.{name}.{kind}", parameter, _rows(index * rows, rows), shape, 0, layout.tensor_rank * rows
            )


def _rows(start: int, count: int) -> Window:
    return lambda like: like.narrow(0, start, count)
