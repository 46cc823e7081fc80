"""Weights of projections as bfloat16; what they multiply stays as it is.

For weights that do not change, those that stay frozen under an adapter: half of their float32 memory. bfloat16 has
float32's range and 8 bits of its mantissa, so a weight moves by 1/256 of itself at most; one that was stored as
bfloat16, as most published models are, keeps every bit.

Inside autocast to bfloat16 a product is the one that autocast makes of a float32 weight, bit for bit, without the copy
that it makes first. Elsewhere a weight is made the activations' type for each product, forward and backward, and is not
kept between them: what a backward pass holds of it is bfloat16.

Not for training: a step of an optimizer is most often smaller than a bfloat16 weight can show.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from lmgraft.training.products import product

__all__ = ["Bfloat16Linear", "bfloat16_product"]


def bfloat16_product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """``x`` (..., in) times the transpose of the (out, in) bfloat16 weight: (..., out), in the type of ``x``, or in
    autocast's where that is on. Differentiable once, with respect to ``x`` alone."""
    if torch.is_autocast_enabled(x.device.type) or x.dtype == weight.dtype:
        return functional.linear(x, weight)
    return _applied(x, weight)


class Bfloat16Linear(nn.Module):
    """Stands where an ``nn.Linear`` stood: same call, same shapes, same name of the weight.

    ``weight`` is a persistent buffer (out, in), unfilled when made; copied into it, floats are rounded to the nearest,
    to even where two are. ``bias`` is a float32 parameter as it was, or None; it is added to the product as autocast
    rounds it, where ``nn.Linear`` itself may round the sum alone.
    """

    weight: torch.Tensor
    """(out, in) bfloat16. No parameter: nothing could train it."""

    def __init__(
        self, in_features: int, out_features: int, bias: bool = False, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.register_buffer("weight", torch.empty(out_features, in_features, dtype=torch.bfloat16, device=device))
        self.bias = nn.Parameter(torch.empty(out_features, device=device)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out)."""
        out = bfloat16_product(x, self.weight)
        return out if self.bias is None else out + self.bias.to(out.dtype)

    def extra_repr(self) -> str:
        """As ``nn.Linear`` prints itself."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weight)
        return product(x, weight.to(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        (weight,) = ctx.saved_tensors
        return product(grad, weight.to(grad.dtype).t()), None


_applied: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = _Product.apply
