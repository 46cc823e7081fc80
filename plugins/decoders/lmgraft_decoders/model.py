"""One decoder from a :class:`~lmgraft.seams.architecture.DecoderSpec`, head inside: Llama and GPT-2 are settings of it.

Its parameters have the names of :data:`lmgraft.seams.architecture.DECODER_NAMES`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import torch
from lmgraft.errors import Fault
from lmgraft.seams.architecture import DecoderSpec, Outputs
from lmgraft.training import asks as positionwise
from lmgraft.training.products import product
from torch import nn
from torch.nn import functional

from lmgraft_decoders.attention import Cache, View, attend, view
from lmgraft_decoders.norm import LayerNorm, RMSNorm
from lmgraft_decoders.rope import rotate, tables

__all__ = ["DecoderModule"]

Tables = tuple[torch.Tensor, torch.Tensor]

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
}


class Projection(nn.Linear):
    """A product with a weight, and a bias where asked; not filled: weights come from an initializer or a file."""

    def reset_parameters(self) -> None:
        return

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = product(x, self.weight)
        # Of the product's type: under autocast a float32 bias would make all that follows float32 too.
        return out if self.bias is None else out + self.bias.to(out.dtype)


class Embedding(nn.Embedding):
    """Not filled, as :class:`Projection`."""

    def reset_parameters(self) -> None:
        return


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


class MLP(nn.Module):
    """Two matrices around an activation; gated (Shazeer 2020, arXiv:2002.05202) with a third one beside the first."""

    def __init__(self, spec: DecoderSpec) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[spec.activation]
        self.gate_proj = Projection(spec.hidden, spec.mlp, bias=spec.bias) if spec.gated else None
        self.up_proj = Projection(spec.hidden, spec.mlp, bias=spec.bias)
        self.down_proj = Projection(spec.mlp, spec.hidden, bias=spec.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.gate_proj is None:
            return self.down_proj(self.activation(self.up_proj(x)))
        return self.down_proj(self.activation(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, spec: DecoderSpec) -> None:
        super().__init__()
        self.input_layernorm = _norm(spec)
        self.self_attn = Attention(spec)
        self.post_attention_layernorm = _norm(spec)
        self.mlp = MLP(spec)

    def forward(
        self, x: torch.Tensor, turns: Tables | None, seen: View, cache: Cache | None, layer: int
    ) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x), turns, seen, cache, layer)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    def __init__(self, spec: DecoderSpec, vocab_size: int) -> None:
        super().__init__()
        self.spec = spec
        self.embed_tokens = Embedding(vocab_size, spec.hidden)
        self.embed_positions = Embedding(spec.context, spec.hidden) if spec.positions == "learned" else None
        self.layers = nn.ModuleList(Block(spec) for _ in range(spec.layers))
        self.norm = _norm(spec)

    def forward(
        self, tokens: torch.Tensor, positions: torch.Tensor, seen: View, cache: Cache | None, kind: torch.dtype
    ) -> torch.Tensor:
        x = self.embed_tokens(tokens)
        turns = None
        if self.embed_positions is not None:
            # Padding on the left may count from below 0; nobody sees it, and a table has no such rows.
            x = x + self.embed_positions(positions.clamp_min(0))
        elif self.spec.positions == "rope":
            turns = tables(positions, self.spec.head_dim, self.spec.rope_theta, kind)
        for index, layer in enumerate(self.layers):
            x = layer(x, turns, seen, cache, index)
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
            cache = Cache(self.spec.layers)
        kind = self._kind(tokens)
        seen = view(tokens, segments, cache, kind)
        hidden = self.model(tokens, _positions(tokens, positions, cache), seen, cache, kind)
        if cache is not None:
            cache.advance(tokens.shape[1], seen.segments)
        head = self.lm_head.weight
        out = positionwise.compute(hidden, head, targets, frozenset(asks) - {"next_logits"})
        if generating:
            out.next_logits = functional.linear(hidden[:, -1], head).float()
            out.cache = cache
        return out

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
    """Those given, or those after the cache, one row for all."""
    if positions is not None:
        return positions
    start = cache.length if cache is not None else 0
    return torch.arange(start, start + tokens.shape[1], device=tokens.device)
