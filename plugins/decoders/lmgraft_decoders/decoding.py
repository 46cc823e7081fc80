"""The decoder as it writes text on a processor: the same answers to ``next_logits``, made for a token a step.

A step of one text reads every weight once and computes little with it, so its time is memory's, if nothing else gets in
the way. What does, in :class:`~lmgraft_decoders.model.DecoderModule`, and what is done about it here:

- MKL reads a float32 weight at a quarter of the memory's speed on processors that are not Intel's, and a bfloat16
  weight is laid out anew for each product: weights are laid out once, as oneDNN wants them
  (:mod:`lmgraft_decoders.packing`).
- Autocast makes a bfloat16 copy of each weight in each step: here the copy is kept, and float32 is what is added up.
- Forty small operations a layer: q, k and v are one product, gate and up another; the sum into the stream and GPT-2's
  activation are done inside products; gains of norms are multiplied into the weights that follow.
- torch's fused attention is made for many queries: one query is two products with keys and values that stand as those
  products read them (:mod:`lmgraft_decoders.rows`). They are float32 in bfloat16 too: torch's small bfloat16 products
  copy what they read and take two to three times as long, and scores keep their digits.

Greedy ids are those of the plain module as far as sums in another order are (float32), or rounding (bfloat16).
It answers nothing else; whatever it is asked beyond ``next_logits`` of unsegmented rows goes to the plain module.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from lmgraft.seams.architecture import DecoderSpec, Outputs
from lmgraft.training.int8 import Int8Linear
from lmgraft.training.rotary import inverse_frequencies
from torch import nn
from torch.nn import functional

from lmgraft_decoders import alibi, packing
from lmgraft_decoders.layers import ACTIVATIONS, MLP, Projection
from lmgraft_decoders.norm import LayerNorm, RMSNorm
from lmgraft_decoders.rows import Rows

__all__ = ["WritingDecoder", "fits"]


def fits(module: Any, spec: DecoderSpec) -> bool:
    """Dense decoders on a processor whose projections are as they were made, or all 8-bit ones (no adapters), where
    there is memory for the weights a second time."""
    if spec.experts or not packing.available(next(module.parameters()).device):
        return False
    head, layers = module.lm_head, module.model.layers
    kinds = {type(part) for part in layers.modules() if isinstance(part, (nn.Linear, Int8Linear))}
    exact = all(parameter.dtype == torch.float32 for parameter in module.parameters())
    if not (exact and type(head) is Projection and kinds in ({Projection}, {Int8Linear})):
        return False
    laid_out = sum(part.weight.numel() for part in [head, *layers.modules()] if isinstance(part, nn.Linear))
    size = 2 if torch.is_autocast_enabled("cpu") else 4
    return laid_out * size < packing.free_memory()


class WritingDecoder(nn.Module):
    """Made of a :class:`~lmgraft_decoders.model.DecoderModule`, inside autocast where that shall write in bfloat16."""

    def __init__(self, plain: Any) -> None:
        super().__init__()
        # In a tuple: not a submodule, its parameters are not this module's.
        self._plain = (plain,)
        self.spec: DecoderSpec = plain.spec
        autocast = torch.is_autocast_enabled("cpu")
        self._kind = torch.get_autocast_dtype("cpu") if autocast else torch.float32
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            self._frequencies = inverse_frequencies(self.spec) if self.spec.positions == "rope" else None
            self._layers = [_Layer(block, self.spec, self._kind) for block in plain.model.layers]
            self._norm = _Norm(plain.model.norm)
            self._head = packing.joined([plain.lm_head], self._norm, self._kind)
            self._norm = self._norm.beside(self._head)
        self.eval()

    def forward(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor | None = None,
        segments: torch.Tensor | None = None,
        targets: torch.Tensor | None = None,
        asks: Collection[str] = (),
        cache: Any = None,
    ) -> Outputs:
        """See :meth:`lmgraft.seams.architecture.Architecture.build`."""
        if set(asks) != {"next_logits"} or segments is not None or not isinstance(cache, Rows | None):
            out: Outputs = self._plain[0](
                tokens, positions=positions, segments=segments, targets=targets, asks=asks, cache=cache
            )
            return out
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            return self._write(tokens, positions, Rows(self.spec, tokens.shape[0]) if cache is None else cache)

    def _write(self, tokens: torch.Tensor, positions: torch.Tensor | None, cache: Rows) -> Outputs:
        rows, length = tokens.shape
        if positions is None:
            positions = torch.arange(length) + torch.tensor(cache.read)[:, None]
        cache.make_room(length)
        x = self._embedded(tokens, positions.expand(rows, length)).flatten(0, 1)
        turns = None
        if self._frequencies is not None:
            angles = positions.expand(rows, length).reshape(-1, 1, 1).float() * self._frequencies
            turns = torch.polar(torch.ones(()).expand_as(angles), angles)
        seen = _bias(self.spec, cache, length, torch.float32 if length == 1 else self._kind)
        for number, layer in enumerate(self._layers):
            x = layer(x, turns, seen, cache, number)
        cache.advance(length)
        if length > 1:
            x = x.view(rows, length, -1)[:, -1]
        return Outputs(next_logits=self._head(self._norm(x, self._kind)).float(), cache=cache)

    def _embedded(self, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        model = self._plain[0].model
        x = functional.embedding(tokens, model.embed_tokens.weight)
        if model.embed_positions is not None:
            x = x + functional.embedding(positions.clamp_min(0), model.embed_positions.weight)
        return x if model.embed_norm is None else model.embed_norm(x)


class _Norm:
    """A norm, its gain and bias left to the product that follows where that took them in."""

    __slots__ = ("bias", "eps", "form", "small", "weight", "width")

    def __init__(self, norm: nn.Module) -> None:
        self.form = {RMSNorm: "rms", LayerNorm: "layer"}.get(type(norm), "none")
        self.weight: torch.Tensor | None = getattr(norm, "weight", None)
        self.bias: torch.Tensor | None = getattr(norm, "bias", None)
        self.width = self.weight.shape[0] if self.weight is not None else 0
        self.eps = float(getattr(norm, "eps", 0.0))
        self.small = torch.full((1, 1), self.eps)

    def beside(self, *products: packing.Product) -> _Norm:
        """This norm as it stands before these products; all of them took its gain in, or none did."""
        if all(product.took_gain for product in products):
            self.weight = self.bias = None
        return self

    def __call__(self, x: torch.Tensor, kind: torch.dtype) -> torch.Tensor:
        """(N, width) float32 -> the same in ``kind``."""
        if self.form == "layer":
            x = functional.layer_norm(x, (self.width,), self.weight, self.bias, self.eps)
        elif self.form == "rms":
            size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
            x = x * torch.addcmul(self.small, size, size, value=1 / self.width).rsqrt_()
            if self.weight is not None:
                x = x * self.weight
        return x.to(kind)


class _Layer:
    """One block; see the top of this module for what is joined."""

    def __init__(self, block: Any, spec: DecoderSpec, kind: torch.dtype) -> None:
        self.spec, self.kind = spec, kind
        attention, mlp = block.self_attn, block.mlp
        self.first = _Norm(block.input_layernorm)
        shared = block.post_attention_layernorm is None
        self.second = self.first if shared else _Norm(block.post_attention_layernorm)
        self.parallel = spec.parallel_block
        self.into = packing.joined([attention.q_proj, attention.k_proj, attention.v_proj], self.first, kind)
        self.out = packing.joined([attention.o_proj], None, kind)
        self.mlp = _MLP(mlp, spec, self.second, kind)
        if shared:
            self.first.beside(self.into, self.mlp.into)
        else:
            self.first.beside(self.into)
            self.second.beside(self.mlp.into)
        self.scale = spec.head_dim**-0.5
        self.nothing = torch.zeros(1, 1, 1)

    def __call__(
        self, x: torch.Tensor, turns: torch.Tensor | None, seen: torch.Tensor | None, cache: Rows, number: int
    ) -> torch.Tensor:
        """(B * T, hidden) -> the same, with a block's work added."""
        normed = self.first(x, self.kind)
        mixed = self._mixed(self.into(normed), turns, seen, cache, number)
        if self.parallel:
            other = normed if self.second is self.first else self.second(x, self.kind)
            return self.mlp(other, self.out.onto(x, mixed))
        x = self.out.onto(x, mixed)
        return self.mlp(self.second(x, self.kind), x)

    def _mixed(
        self, made: torch.Tensor, turns: torch.Tensor | None, seen: torch.Tensor | None, cache: Rows, number: int
    ) -> torch.Tensor:
        spec, width = self.spec, self.spec.head_dim
        rows = len(cache.read)
        heads = made.view(made.shape[0], -1, width)
        turned = heads[:, : -spec.kv_heads]
        if turns is not None:
            # Pairs come out side by side, in queries and keys alike: their products are the same.
            half = width // 2
            wide = turned.float()
            turned = torch.view_as_real(torch.complex(wide[..., :half], wide[..., half:]) * turns).flatten(-2)
        apart = (rows, made.shape[0] // rows)
        query, keys = turned[:, : spec.heads], turned[:, spec.heads :].unflatten(0, apart)
        values = heads[:, -spec.kv_heads :].unflatten(0, apart)
        cache.write(number, keys, values)
        if apart[1] == 1:
            return self._one(query.float(), seen, cache, number).to(self.kind)
        return self._many(query.unflatten(0, apart), keys, values, seen, cache, number)

    def _one(self, query: torch.Tensor, seen: torch.Tensor | None, cache: Rows, number: int) -> torch.Tensor:
        """One query (B, heads, width) a row, those that share a key head below one another: no key is copied."""
        spec, width = self.spec, self.spec.head_dim
        low, end = _span(spec, cache, 1)
        groups = query.shape[0] * spec.kv_heads
        keys = cache.keys[number].view(groups, width, -1)[:, :, low:end]
        values = cache.values[number].view(groups, -1, width)[:, low:end]
        asked = query.reshape(groups, -1, width)
        if seen is None:
            scores = torch.baddbmm(self.nothing, asked, keys, beta=0, alpha=self.scale)
        else:
            scores = torch.baddbmm(seen, asked, keys, alpha=self.scale)
        return torch.bmm(torch.softmax(scores, -1), values).view(query.shape[0], -1)

    def _many(
        self,
        query: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        seen: torch.Tensor | None,
        cache: Rows,
        number: int,
    ) -> torch.Tensor:
        """Queries (B, T, heads, width): of a prompt, or of a later piece of one."""
        query, keys, values = (part.transpose(1, 2).to(self.kind) for part in (query, keys, values))
        if cache.end:
            end = cache.end + query.shape[2]
            keys = cache.keys[number][..., :end].transpose(2, 3).to(self.kind).contiguous()
            values = cache.values[number][:, :, :end].to(self.kind)
        mixed = functional.scaled_dot_product_attention(
            query, keys, values, attn_mask=seen, is_causal=seen is None, enable_gqa=query.shape[1] != keys.shape[1]
        )
        return mixed.transpose(1, 2).reshape(query.shape[0] * query.shape[2], -1)


class _MLP:
    """The MLP, added to what it is given."""

    def __init__(self, mlp: MLP, spec: DecoderSpec, norm: _Norm, kind: torch.dtype) -> None:
        self.activation = ACTIVATIONS[spec.activation]
        self.fused = packing.ACTIVATIONS[spec.activation]
        self.gated = spec.mlp if mlp.gate_proj is not None else 0
        self.into = packing.joined([mlp.up_proj] if mlp.gate_proj is None else [mlp.gate_proj, mlp.up_proj], norm, kind)
        self.down = packing.joined([mlp.down_proj], None, kind)

    def __call__(self, x: torch.Tensor, stream: torch.Tensor) -> torch.Tensor:
        if not self.gated:
            return self.down.onto(stream, self.into.activated(x, self.fused, self.activation))
        made = self.into(x)
        return self.down.onto(stream, self.activation(made[:, : self.gated]).mul_(made[:, self.gated :]))


def _span(spec: DecoderSpec, cache: Rows, length: int) -> tuple[int, int]:
    """The columns that tokens to come see: the window's before the first of them, and all of theirs."""
    return max(0, cache.end + 1 - spec.window) if spec.window else 0, cache.end + length


def _bias(spec: DecoderSpec, cache: Rows, length: int, kind: torch.dtype) -> torch.Tensor | None:
    """What is added to the scores, the same in all layers: minus infinity where a token does not see, ALiBi's costs.

    None where nothing is: one token that sees all, or a prompt from its start. For one token (B * kv_heads, heads a
    key head, columns), otherwise (B or 1, heads or 1, T, columns).
    """
    even, alike = cache.even, spec.positions != "alibi"
    past, end = cache.end, cache.end + length
    if length == 1:
        low, _ = _span(spec, cache, 1)
        if alike and even:
            return None
        columns = torch.arange(low, end)
        mask = _hidden(columns < cache.begins())[:, None]
        if not alike:
            mask = mask + alibi.bias(spec.heads, past - columns, torch.float32)
        groups = len(cache.read) * spec.kv_heads
        whole = mask.expand(len(cache.read), spec.heads, end - low)
        return whole.reshape(groups, -1, end - low).to(kind)
    if past == 0 and alike and not 0 < spec.window < end:
        return None
    columns, queries = torch.arange(end), torch.arange(past, end)[:, None]
    hidden = columns > queries
    if spec.window:
        hidden = hidden | (columns <= queries - spec.window)
    if not even:
        hidden = hidden | (columns < cache.begins()[:, :, None])
    mask = _hidden(hidden.view(-1, 1, length, end))
    if not alike:
        mask = mask + alibi.bias(spec.heads, (queries - columns).clamp_min(0), torch.float32)
    return mask.to(kind)


def _hidden(where: torch.Tensor) -> torch.Tensor:
    return torch.zeros(where.shape).masked_fill_(where, float("-inf"))
