"""Rotary positions (Su et al. 2021, arXiv:2104.09864), in the layout of transformers: the pairs are (i, i + d/2)."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

__all__ = ["rotate", "tables"]


def tables(positions: torch.Tensor, frequencies: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine (..., T, 1, width / 2) of ``positions`` (..., T), by ``frequencies`` (width / 2), those of
    :func:`lmgraft.training.rotary.inverse_frequencies`; angles are float32 whatever ``dtype`` is.

    Made anew at each forward pass: a buffer would be lost on ``meta`` and rounded by ``module.bfloat16()``.
    """
    angles = positions.float()[..., None, None] * frequencies
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turns ``heads`` (B, T, H, width) by the angles of :func:`tables`."""
    turned: torch.Tensor = _Rotate.apply(heads, cos, sin)
    return turned


class _Rotate(torch.autograd.Function):
    """A rotation is orthogonal, so its gradient is the rotation back: nothing but the tables is kept."""

    @staticmethod
    def forward(ctx: Any, heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(heads, cos, sin, 1.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(grad, cos, sin, -1.0), None, None


def _turn(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, sign: float) -> torch.Tensor:
    first, second = heads.chunk(2, -1)
    return torch.cat(
        (
            torch.addcmul(first * cos, second, sin, value=-sign),
            torch.addcmul(second * cos, first, sin, value=sign),
        ),
        -1,
    )
