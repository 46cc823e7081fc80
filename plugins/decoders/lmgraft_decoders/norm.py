"""RMSNorm (Zhang and Sennrich 2019, arXiv:1910.07467) and LayerNorm (Ba et al. 2016, arXiv:1607.06450)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

__all__ = ["LayerNorm", "RMSNorm"]


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, computed in float32.

    The result has autocast's type where autocast is on, so that the products after it do not each convert it again.
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        device, kind = x.device.type, _kind(x)
        if device == "cpu" and x.dtype == torch.float32 and not torch.compiler.is_compiling():
            # torch has no fused kernel for the CPU: F.rms_norm is nine passes over memory there.
            normed: torch.Tensor = _RMSNorm.apply(x, self.weight, self.eps, kind)
            return normed
        return functional.rms_norm(x, self.weight.shape, self.weight, self.eps).to(kind)


class LayerNorm(nn.LayerNorm):
    """(x - mean) / sqrt(variance + eps) * weight + bias, of the same type as :class:`RMSNorm`; not filled."""

    def reset_parameters(self) -> None:
        return

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).to(_kind(x))


def _kind(x: torch.Tensor) -> torch.dtype:
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float, kind: torch.dtype) -> torch.Tensor:
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
        scale = square.div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight).to(kind)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        x, weight, scale = ctx.saved_tensors
        grad = grad.to(x.dtype)
        normed = x * scale
        product = grad * normed
        d_weight = product.flatten(0, -2).sum(0)
        inner = torch.mv(product.flatten(0, -2), weight).view(scale.shape).div_(x.shape[-1])
        d_x = torch.addcmul(grad * weight, normed, inner, value=-1.0).mul_(scale)
        return d_x, d_weight, None, None
