"""Matrix products with a weight, by the faster of the processor's two libraries.

In float32 torch multiplies with MKL, which runs its AVX2 code on processors that are not Intel's; oneDNN, which torch
also carries, uses AVX-512 there. Measured on an EPYC with 256 to 1024 columns: 71-82 GFLOP/s a core by MKL, 97-197 by
oneDNN. Everywhere else (other types, devices, vendors, few rows, ``torch.compile``) this is ``functional.linear``.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

__all__ = ["product"]

#: Below this many rows (text generation) reordering the weight costs more than the product gains.
LEAST_ROWS = 64


def product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """``x`` (..., K) times the transpose of ``weight`` (M, K): (..., M). Differentiable once."""
    if not _worth_it(x, weight):
        return functional.linear(x, weight)
    flat: torch.Tensor = _Product.apply(x.reshape(-1, x.shape[-1]), weight)  # type: ignore[no-untyped-call]
    return flat.view(*x.shape[:-1], weight.shape[0])


def _worth_it(x: torch.Tensor, weight: torch.Tensor) -> bool:
    return (
        x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        and x.numel() >= LEAST_ROWS * x.shape[-1]
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and _faster_here()
    )


@lru_cache(maxsize=1)
def _faster_here() -> bool:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    try:
        return "GenuineIntel" not in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore")
    except OSError:
        return False


def _onednn(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x (N, K) times the transpose of weight (M, K); the operator that torch.compile uses for linear layers."""
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return result


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return _onednn(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        x, weight = ctx.saved_tensors
        need_x, need_weight = ctx.needs_input_grad
        return _onednn(grad, weight.t()) if need_x else None, _onednn(grad.t(), x.t()) if need_weight else None
