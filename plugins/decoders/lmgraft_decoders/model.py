"""The module: names of transformers' ``LlamaForCausalLM``, head inside."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from lmgraft.errors import Fault
from lmgraft.seams.architecture import Outputs
from lmgraft.training import asks as positionwise
from lmgraft.training.products import product
from torch import nn
from torch.nn import functional

from lmgraft_decoders.attention import Cache, View, attend, view
from lmgraft_decoders.norm import RMSNorm
from lmgraft_decoders.plugin import LlamaConfig, Norm
from lmgraft_decoders.rope import rotate, tables

__all__ = ["LlamaModule"]

Tables = tuple[torch.Tensor, torch.Tensor]


class Projection(nn.Linear):
    """A product with a weight and no bias, not filled: weights come from an initializer or a file."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__(width_in, width_out, bias=False)

    def reset_parameters(self) -> None:
        return

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return product(x, self.weight)


class Embedding(nn.Embedding):
    """Not filled, as :class:`Projection`."""

    def reset_parameters(self) -> None:
        return


def _norm(config: LlamaConfig) -> nn.Module:
    return RMSNorm(config.hidden, config.norm_eps) if config.norm is Norm.rmsnorm else nn.Identity()


class Attention(nn.Module):
    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.width = config.hidden // config.heads
        self.q_proj = Projection(config.hidden, config.hidden)
        self.k_proj = Projection(config.hidden, config.kv_heads * self.width)
        self.v_proj = Projection(config.hidden, config.kv_heads * self.width)
        self.o_proj = Projection(config.hidden, config.hidden)

    def forward(self, x: torch.Tensor, turns: Tables, seen: View, cache: Cache | None, layer: int) -> torch.Tensor:
        query, keys, values = (self._heads(project(x)) for project in (self.q_proj, self.k_proj, self.v_proj))
        query, keys = (rotate(heads, *turns).transpose(1, 2) for heads in (query, keys))
        values = values.transpose(1, 2)
        if cache is not None:
            keys, values = cache.extend(layer, keys, values)
        mixed = attend(query, keys, values, seen)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def _heads(self, projected: torch.Tensor) -> torch.Tensor:
        return projected.unflatten(-1, (-1, self.width))


class MLP(nn.Module):
    """SwiGLU (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_proj = Projection(config.hidden, config.mlp)
        self.up_proj = Projection(config.hidden, config.mlp)
        self.down_proj = Projection(config.mlp, config.hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.input_layernorm = _norm(config)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = _norm(config)
        self.mlp = MLP(config)

    def forward(self, x: torch.Tensor, turns: Tables, seen: View, cache: Cache | None, layer: int) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x), turns, seen, cache, layer)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    def __init__(self, config: LlamaConfig, vocab_size: int) -> None:
        super().__init__()
        self.embed_tokens = Embedding(vocab_size, config.hidden)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = _norm(config)

    def forward(self, tokens: torch.Tensor, turns: Tables, seen: View, cache: Cache | None) -> torch.Tensor:
        x = self.embed_tokens(tokens)
        for index, layer in enumerate(self.layers):
            x = layer(x, turns, seen, cache, index)
        return self.norm(x)


class LlamaModule(nn.Module):
    """See :meth:`lmgraft.seams.architecture.Architecture.build` for what ``forward`` takes and gives."""

    def __init__(self, config: LlamaConfig, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config, vocab_size)
        self.lm_head = Projection(config.hidden, vocab_size)
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
            raise Fault(f"the llama architecture cannot answer {', '.join(sorted(unknown))}")
        generating = "next_logits" in asks
        if generating and cache is None:
            cache = Cache(self.config.layers)
        kind = self._kind(tokens)
        seen = view(tokens, segments, cache, kind)
        hidden = self.model(tokens, self._turns(tokens, positions, cache, kind), seen, cache)
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

    def _turns(
        self, tokens: torch.Tensor, positions: torch.Tensor | None, cache: Cache | None, kind: torch.dtype
    ) -> Tables:
        if positions is None:
            start = cache.length if cache is not None else 0
            positions = torch.arange(start, start + tokens.shape[1], device=tokens.device)
        return tables(positions, self.config.hidden // self.config.heads, self.config.rope_theta, kind)

    def _tie(self) -> None:
        if self.config.tied:
            self.lm_head.weight = self.model.embed_tokens.weight

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> LlamaModule:
        """Moves (``to``, ``to_empty``) make new parameters where the old ones are on ``meta``: tie them again."""
        super()._apply(fn, recurse)
        self._tie()
        return self
