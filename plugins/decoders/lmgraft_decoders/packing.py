"""Products with weights that do not change, laid out once for the processor by oneDNN, which torch carries.

Measured on an EPYC (Zen 5, 2 threads, torch 2.13), (3072, 768) weights, GB/s of weight read by 1 and by 16 rows:
float32 17 and 9 by torch's own product, 46 and 32 here; bfloat16 21 and 16, 45 and 30 here; what a plain sum of a large
tensor reads is 75 to 90.
"""

from __future__ import annotations

import platform
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from lmgraft.training.int8 import Int8Linear
from torch import nn

__all__ = ["ACTIVATIONS", "Product", "available", "free_memory", "joined"]

#: Activations that oneDNN applies inside a product: its name, and which of two formulas.
ACTIVATIONS: dict[str, tuple[str, str]] = {
    "silu": ("swish", ""),
    "gelu": ("gelu", "none"),
    "gelu_tanh": ("gelu", "tanh"),
}

#: Rows for which the layout is chosen. One row alone gives a layout that is slow for more; this one is right for all.
TYPICAL_ROWS = 64

Activation = Callable[[torch.Tensor], torch.Tensor]


class Gain(Protocol):
    """A norm's gain and bias, which a product may take in: W (g x + b) = (W g) x + W b."""

    weight: torch.Tensor | None
    bias: torch.Tensor | None


def available(device: torch.device) -> bool:
    """Is there oneDNN, with the operators that torch.compile uses, for this device?"""
    return (
        device.type == "cpu"
        and platform.machine().lower() in ("x86_64", "amd64")
        and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
        and all(hasattr(torch.ops.mkldnn, name) for name in ("_linear_pointwise", "_reorder_linear_weight"))
    )


def free_memory() -> float:
    """Bytes that the system can give without swapping; infinite where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return float("inf")
    found = (line.split() for line in lines if line.startswith("MemAvailable:"))
    return next((1024.0 * int(words[1]) for words in found), float("inf"))


class Product(Protocol):
    """Rows (N, in) times one weight, or several whose answers stand side by side."""

    took_gain: bool
    """Is the gain of the norm before it part of it?"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(N, out)."""
        ...

    def activated(self, x: torch.Tensor, fused: tuple[str, str], activation: Activation) -> torch.Tensor:
        """The product through an activation, told in both ways."""
        ...

    def onto(self, stream: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """``stream`` (N, out), float32, plus the product."""
        ...


def joined(parts: Sequence[nn.Module], gain: Gain | None, kind: torch.dtype) -> Product:
    """The products of ``parts`` as one, in ``kind``."""
    if any(isinstance(part, Int8Linear) for part in parts):
        return _Each(parts)
    if kind is torch.bfloat16 and not _bfloat16():
        return _Plain(parts, gain, kind)
    return _Packed(parts, gain, kind)


def _bfloat16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _whole(parts: Sequence[Any], gain: Gain | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """One float32 weight and bias for all."""
    weight = torch.cat([part.weight.detach() for part in parts]) if len(parts) > 1 else parts[0].weight.detach()
    bias = None
    if any(part.bias is not None for part in parts):
        zeros = [part.weight.new_zeros(part.weight.shape[0]) for part in parts]
        bias = torch.cat([zero if part.bias is None else part.bias for part, zero in zip(parts, zeros, strict=True)])
    if gain is not None and gain.bias is not None:
        moved = torch.mv(weight, gain.bias)
        bias = moved if bias is None else bias + moved
    if gain is not None and gain.weight is not None:
        weight = weight * gain.weight
    return weight, bias


class _Packed:
    took_gain = True

    def __init__(self, parts: Sequence[nn.Module], gain: Gain | None, kind: torch.dtype) -> None:
        weight, bias = _whole(parts, gain)
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.to(kind).contiguous(), TYPICAL_ROWS)
        self._bias = None if bias is None else bias.to(kind)
        self._exact = kind is torch.float32
        self._one = torch.ops.mkldnn._linear_pointwise.default
        self._two = torch.ops.mkldnn._linear_pointwise.binary

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self._one(x, self._weight, self._bias, "none", [], "")
        return made

    def activated(self, x: torch.Tensor, fused: tuple[str, str], activation: Activation) -> torch.Tensor:
        made: torch.Tensor = self._one(x, self._weight, self._bias, fused[0], [], fused[1])
        return made

    def onto(self, stream: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        if not self._exact:  # what is added up stays float32
            return stream + self(x)
        made: torch.Tensor = self._two(x, stream, self._weight, self._bias, "add")
        return made


class _Unfused(ABC):
    """A product, and then what comes after it."""

    took_gain = False

    @abstractmethod
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The product alone."""

    def activated(self, x: torch.Tensor, fused: tuple[str, str], activation: Activation) -> torch.Tensor:
        return activation(self(x))

    def onto(self, stream: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return stream + self(x)


class _Each(_Unfused):
    """Modules as they are, one after the other: 8-bit weights are not laid out anew."""

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        self._parts = parts

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        made = [part(x) for part in self._parts]
        return made[0] if len(made) == 1 else torch.cat(made, -1)


class _Plain(_Unfused):
    """Where oneDNN has no bfloat16: torch's own product, with the weight kept in that type."""

    took_gain = True

    def __init__(self, parts: Sequence[nn.Module], gain: Gain | None, kind: torch.dtype) -> None:
        weight, bias = _whole(parts, gain)
        self._weight = weight.to(kind)
        self._bias = None if bias is None else bias.to(kind)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self._weight, self._bias)
