"""FlexAttention (Dong et al. 2024, arXiv:2412.05496): blocks in which nothing is seen are not computed at all.

On CUDA, in place of a written-out mask, wherever documents are packed, a window slides or ALiBi is added. On a
processor it works out all scores and has no backward pass, so there it only serves to be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from lmgraft.seams.architecture import DecoderSpec

from lmgraft_decoders import alibi

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

__all__ = ["Blocks", "blocks", "fits"]

#: Its kernels take no narrower heads.
NARROWEST = 16


def fits(tokens: torch.Tensor, past: int, width: int) -> bool:
    """Is it the better way here? Whole sequences on CUDA; a new token with its cache has one row of a mask."""
    return tokens.device.type == "cuda" and past == 0 and tokens.shape[1] > 1 and width >= NARROWEST


class Blocks:
    """Who sees whom in a batch, block by block, and what is added to the scores; made once for all layers."""

    __slots__ = ("_added", "_seen")

    def __init__(self, seen: BlockMask, added: Callable[..., torch.Tensor] | None) -> None:
        self._seen = seen
        self._added = added

    def attend(self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """(B, heads, T, width) over (B, kv_heads, T, width)."""
        grouped = query.shape[1] != keys.shape[1]
        out: torch.Tensor = _kernel(query.device.type)(
            query, keys, values, score_mod=self._added, block_mask=self._seen, enable_gqa=grouped
        )
        return out


def blocks(tokens: torch.Tensor, segments: torch.Tensor | None, spec: DecoderSpec) -> Blocks:
    """For tokens (B, T) without a past."""
    from torch.nn.attention.flex_attention import create_block_mask  # it loads torch's compiler: two seconds

    window, length = spec.window, tokens.shape[1]

    def seen(b: torch.Tensor, h: torch.Tensor, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
        near = i >= j
        if window:
            near = near & (i - j < window)
        return near if segments is None else near & (segments[b, i] == segments[b, j])

    rows = None if segments is None else tokens.shape[0]
    mask = create_block_mask(seen, rows, None, length, length, device=tokens.device)
    return Blocks(mask, _penalty(spec.heads, tokens.device) if spec.positions == "alibi" else None)


def _penalty(heads: int, device: torch.device) -> Callable[..., torch.Tensor]:
    slopes = torch.tensor(alibi.slopes(heads), device=device)

    def added(score: torch.Tensor, b: torch.Tensor, h: torch.Tensor, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
        return score - slopes[h] * (i - j)

    return added


@lru_cache(maxsize=2)
def _kernel(device: str) -> Callable[..., Any]:
    """Compiled once for all layers and steps; without compiling it would write out all scores."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention) if device == "cuda" else flex_attention
