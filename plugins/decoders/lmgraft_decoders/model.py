"""One decoder from a :class:`~lmgraft.seams.architecture.DecoderSpec`, head inside: all families are settings of it.

Its parameters have the names of :data:`lmgraft.seams.architecture.DECODER_NAMES`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from lmgraft.errors import Fault
from lmgraft.seams.architecture import DecoderSpec, Outputs
from lmgraft.training import asks as positionwise
from lmgraft.training.rotary import inverse_frequencies
from torch import nn
from torch.nn import functional

from lmgraft_decoders.attention import View, attend, view
from lmgraft_decoders.cache import Cache
from lmgraft_decoders.experts import Balance, Experts
from lmgraft_decoders.layers import MLP, Embedding, Projection
from lmgraft_decoders.norm import LayerNorm, RMSNorm
from lmgraft_decoders.rope import rotate, tables

__all__ = ["DecoderModule"]

Tables = tuple[torch.Tensor, torch.Tensor]


def _norm(spec: DecoderSpec) -> nn.Module:
    if spec.norm == "none":
        return nn.Identity()
    return (LayerNorm if spec.norm == "layernorm" else RMSNorm)(spec.hidden, spec.norm_eps)


class Attention(nn.Module):
    def __init__(self, spec: DecoderSpec) -> None:
        super().__init__()
        self.width = spec.head_dim
        into = spec.bias or spec.qkv_bias
        self.q_proj = Projection(spec.hidden, spec.heads * self.width, bias=into)
        self.k_proj = Projection(spec.hidden, spec.kv_heads * self.width, bias=into)
        self.v_proj = Projection(spec.hidden, spec.kv_heads * self.width, bias=into)
        self.o_proj = Projection(spec.heads * self.width, spec.hidden, bias=spec.bias)

    def forward(
        self, x: torch.Tensor, turns: Tables | None, seen: View, cache: Cache | None, layer: int
    ) -> torch.Tensor:
        query, keys, values = (self._heads(project(x)) for project in (self.q_proj, self.k_proj, self.v_proj))
        if turns is not None:
            query, keys = rotate(query, *turns), rotate(keys, *turns)
        query, keys, values = (heads.transpose(1, 2) for heads in (query, keys, values))
        if cache is not None:
            keys, values = cache.extend(layer, keys, values)
        mixed = attend(query, keys, values, seen)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def _heads(self, projected: torch.Tensor) -> torch.Tensor:
        return projected.unflatten(-1, (-1, self.width))


class Block(nn.Module):
    """Attention, then the MLP, each on a normed copy of the stream; or both at once on the same one
    (``parallel_block``: Wang and Komatsuzaki 2021's GPT-J; Almazrouei et al. 2023's Falcon, arXiv:2311.16867)."""

    def __init__(self, spec: DecoderSpec) -> None:
        super().__init__()
        self.parallel = spec.parallel_block
        self.input_layernorm = _norm(spec)
        self.self_attn = Attention(spec)
        self.post_attention_layernorm = None if spec.parallel_block and spec.shared_norm else _norm(spec)
        self.mlp: MLP | Experts = Experts(spec) if spec.experts else MLP(spec)

    def forward(
        self,
        x: torch.Tensor,
        turns: Tables | None,
        seen: View,
        cache: Cache | None,
        layer: int,
        balance: Balance | None,
    ) -> torch.Tensor:
        normed = self.input_layernorm(x)
        mixed = self.self_attn(normed, turns, seen, cache, layer)
        if not self.parallel:
            x = x + mixed
        if self.post_attention_layernorm is not None:
            normed = self.post_attention_layernorm(x)
        through = self.mlp(normed, balance) if isinstance(self.mlp, Experts) else self.mlp(normed)
        return x + (through + mixed if self.parallel else through)


class Decoder(nn.Module):
    def __init__(self, spec: DecoderSpec, vocab_size: int) -> None:
        super().__init__()
        self.spec = spec
        self.embed_tokens = Embedding(vocab_size, spec.hidden)
        self.embed_positions = Embedding(spec.context, spec.hidden) if spec.positions == "learned" else None
        self.embed_norm = _norm(spec) if spec.embedding_norm else None
        self.layers = nn.ModuleList(Block(spec) for _ in range(spec.layers))
        self.norm = _norm(spec)

    def forward(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        seen: View,
        cache: Cache | None,
        kind: torch.dtype,
        balance: Balance | None,
    ) -> torch.Tensor:
        x = self.embed_tokens(tokens)
        turns = None
        if self.embed_positions is not None:
            # Padding on the left may count from below 0; nobody sees it, and a table has no such rows.
            x = x + self.embed_positions(positions.clamp_min(0))
        elif self.spec.positions == "rope":
            turns = tables(positions, inverse_frequencies(self.spec, positions.device), kind)
        if self.embed_norm is not None:
            with torch.autocast(x.device.type, enabled=False):  # what is added up over the layers stays float32
                x = self.embed_norm(x)
        for index, layer in enumerate(self.layers):
            x = layer(x, turns, seen, cache, index, balance)
        return self.norm(x)


class DecoderModule(nn.Module):
    """See :meth:`lmgraft.seams.architecture.Architecture.build` for what ``forward`` takes and gives."""

    def __init__(self, spec: DecoderSpec, vocab_size: int) -> None:
        super().__init__()
        self.spec = spec
        self.model = Decoder(spec, vocab_size)
        self.lm_head = Projection(spec.hidden, vocab_size, bias=False)
        self._tie()

    def forward(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor | None = None,
        segments: torch.Tensor | None = None,
        targets: torch.Tensor | None = None,
        asks: Collection[str] = (),
        cache: Cache | None = None,
    ) -> Outputs:
        """``next_logits`` makes a cache, or goes on with ``cache``; the tokens are then those after it.

        Where a cache is given, ``positions`` default to those after it, and ``segments`` to the last token's.
        """
        if unknown := frozenset(asks) - positionwise.COMPUTED - {"next_logits"}:
            raise Fault(f"the decoder cannot answer {', '.join(sorted(unknown))}")
        generating = "next_logits" in asks
        if generating and cache is None:
            cache = Cache(self.spec.layers, self.spec.window)
        if cache is not None:
            cache.make_room(tokens.shape[1])
        kind = self._kind(tokens)
        seen = view(tokens, segments, cache, self.spec, kind)
        balance = Balance(segments) if self.training and self.spec.expert_balance and self.spec.experts else None
        hidden = self.model(tokens, _positions(tokens, positions, cache), seen, cache, kind, balance)
        if cache is not None:
            cache.advance(tokens.shape[1], seen.segments)
        head = self.lm_head.weight
        out = positionwise.compute(hidden, head, targets, frozenset(asks) - {"next_logits"})
        if generating:
            out.next_logits = functional.linear(hidden[:, -1], head).float()
            out.cache = cache
        if balance is not None:
            out.model_losses = {"expert_balance": self.spec.expert_balance * balance.loss()}
        return out

    def generation(self) -> nn.Module:
        """What writes text in this one's place: its own where :mod:`lmgraft_decoders.decoding` has none for it."""
        from lmgraft_decoders.decoding import WritingDecoder, fits

        return WritingDecoder(self) if fits(self, self.spec) else self

    def _kind(self, tokens: torch.Tensor) -> torch.dtype:
        """The type that queries and keys will have."""
        device = tokens.device.type
        return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.lm_head.weight.dtype

    def _tie(self) -> None:
        if self.spec.tied:
            self.lm_head.weight = self.model.embed_tokens.weight

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> DecoderModule:
        """Moves (``to``, ``to_empty``) make new parameters where the old ones are on ``meta``: tie them again."""
        super()._apply(fn, recurse)
        self._tie()
        return self


def _positions(tokens: torch.Tensor, positions: torch.Tensor | None, cache: Cache | None) -> torch.Tensor:
    """Those given, or those after the cache: one row for all, unless rows have read different numbers of tokens."""
    if positions is not None:
        return positions
    read = cache.read if cache is not None else 0
    if isinstance(read, int):
        return torch.arange(read, read + tokens.shape[1], device=tokens.device)
    return read + torch.arange(tokens.shape[1], device=tokens.device)
