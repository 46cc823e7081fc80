"""Who sees whom: documents packed into a row, sliding windows, ALiBi; and the softmax over what is seen."""

from __future__ import annotations

import torch
from lmgraft.seams.architecture import DecoderSpec
from torch.nn import functional

from lmgraft_decoders import alibi, flexible
from lmgraft_decoders.cache import Cache

__all__ = ["View", "attend", "view"]

#: One layer's softmax in bfloat16 at most, where plain products stand in for the fused kernel.
PLAIN_BYTES = 64 << 20


class View:
    """What attention needs to know of a batch: a mask to add to the scores, or plain causality, or nothing at all."""

    __slots__ = ("_mask", "blocks", "causal", "segments")

    def __init__(
        self,
        causal: bool,
        mask: torch.Tensor | None,
        segments: torch.Tensor | None,
        blocks: flexible.Blocks | None = None,
    ) -> None:
        self.causal = causal
        self._mask = mask
        self.segments = segments
        """(B, past + T) of all tokens so far, for the cache."""
        self.blocks = blocks
        """In place of a mask, for FlexAttention."""

    @property
    def mask(self) -> torch.Tensor | None:
        """None where ``causal`` or where everything is seen."""
        return None if self.causal else self._mask

    def written_out(self, query: torch.Tensor) -> torch.Tensor | None:
        """The mask, of plain causality too; made once for all layers."""
        if self.causal and self._mask is None:
            self._mask = _mask(query.shape[2], 0, None, 0, query.device, query.dtype)
        return self._mask


def view(
    tokens: torch.Tensor,
    segments: torch.Tensor | None,
    cache: Cache | None,
    spec: DecoderSpec,
    dtype: torch.dtype,
    flex: bool | None = None,
) -> View:
    """How the tokens (B, T) see one another and those in the cache.

    A token sees the tokens up to itself that have its segment, the last ``spec.window`` of them. Padding (-1) sees
    padding, itself at least, so no row of the softmax is empty. Tokens of a segment stand side by side, so distances
    (ALiBi's and the window's) are counted in columns, whatever the positions. ``flex``: FlexAttention in place of a
    mask; None: where it is compiled, on CUDA.
    """
    past, length = cache.length if cache is not None else 0, tokens.shape[1]
    known = _segments_so_far(tokens, segments, cache)
    apart = known if known is not None and not (past == 0 and _one_each(known)) else None
    alike = spec.positions != "alibi" and (not spec.window or past + length <= spec.window)
    if alike and apart is None and past == 0:
        return View(True, None, known)
    if alike and apart is None and length == 1:
        return View(False, None, known)
    if flexible.fits(tokens, past, spec.head_dim) if flex is None else flex:
        return View(False, None, known, flexible.blocks(tokens, apart, spec))
    mask = _mask(length, past, apart, spec.window, tokens.device, dtype)
    if spec.positions == "alibi":
        keys = torch.arange(past + length, device=tokens.device)
        # Later keys are hidden anyway: at distance 0 they cannot overflow.
        mask = mask + alibi.bias(spec.heads, (keys[past:, None] - keys).clamp_min(0), dtype)
    return View(False, mask, known)


def _segments_so_far(tokens: torch.Tensor, segments: torch.Tensor | None, cache: Cache | None) -> torch.Tensor | None:
    """(B, past + T). Tokens without a segment go on with the last one's; a cache without any is segment 0."""
    if cache is None or cache.length == 0 or (segments is None and cache.segments is None):
        return segments
    before = cache.segments if cache.segments is not None else tokens.new_zeros(tokens.shape[0], cache.length)
    now = segments if segments is not None else before[:, -1:].expand_as(tokens)
    return torch.cat((before, now), 1)


def _mask(
    length: int, past: int, segments: torch.Tensor | None, window: int, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """(B or 1, 1, length, past + length): 0 where seen, minus infinity where not.

    Of the scores' type: from a boolean mask torch would make this very tensor in every layer.
    """
    keys = torch.arange(past + length, device=device)
    seen = (keys <= keys[past:, None])[None]
    if window:
        seen = seen & (keys > keys[past:, None] - window)
    if segments is not None:
        seen = seen & (segments[:, past:, None] == segments[:, None, :])
    return torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(~seen, float("-inf"))[:, None]


def _one_each(segments: torch.Tensor) -> bool:
    """Is every row one document, padded at its right at most? Then plain causality hides all that must be hidden,
    and the mask is not needed. Asked on the CPU only: elsewhere the answer would have to be waited for."""
    if segments.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    first = segments[:, :1]
    one = ((segments == first) | (segments < 0)).all() and (first >= 0).all()
    return bool(one and (segments[:, 1:] <= segments[:, :-1]).all())


def attend(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, seen: View) -> torch.Tensor:
    """Softmax attention: (B, heads, T, width) queries over (B, kv_heads, S, width) keys and values, of which none is
    copied for the queries that share it."""
    if seen.blocks is not None:
        return seen.blocks.attend(query, keys, values)
    if _plain_is_faster(query, keys):
        return _plain(query, keys, values, seen.written_out(query))
    grouped = query.shape[1] != keys.shape[1]
    if grouped and query.shape[2] == 1 and not seen.causal:
        return _one_query(query, keys, values, seen.mask)
    return functional.scaled_dot_product_attention(
        query, keys, values, attn_mask=seen.mask, is_causal=seen.causal, enable_gqa=grouped
    )


def _one_query(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """A new token's queries that share a key head stand below one another: each key is read once for all of them."""
    rows = query.view(query.shape[0], keys.shape[1], -1, query.shape[3])
    if mask is not None and mask.shape[1] > 1:
        mask = mask.view(mask.shape[0], *rows.shape[1:3], mask.shape[3])
    return functional.scaled_dot_product_attention(rows, keys, values, attn_mask=mask).view(query.shape)


def _plain_is_faster(query: torch.Tensor, keys: torch.Tensor) -> bool:
    """Training in bfloat16 on a processor: torch's fused kernel there takes 1.7 (T = 1024) to 3.5 times (T = 128) as
    long as the plain products (measured), which keep the shares (B, heads, T, S) for the backward pass."""
    shares = query.shape[0] * query.shape[1] * query.shape[2] * keys.shape[2]
    return (
        query.device.type == "cpu"
        and query.dtype == torch.bfloat16
        and torch.is_grad_enabled()
        and 2 * shares <= PLAIN_BYTES
    )


def _plain(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    batch, heads, length, width = query.shape
    # Queries that share a key head stand below one another: no key is copied.
    rows = (query * width**-0.5).reshape(batch, keys.shape[1], -1, width)
    scores = torch.matmul(rows, keys.transpose(-1, -2)).view(batch, heads, length, -1)
    if mask is not None:
        scores = scores.add_(mask)
    shares = torch.softmax(scores, -1).view(batch, keys.shape[1], rows.shape[2], -1)
    return torch.matmul(shares, values).view(batch, heads, length, width)
