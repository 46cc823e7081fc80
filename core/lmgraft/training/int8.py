"""Weights of projections as 8-bit integers with one scale per output row; what they multiply stays as it is.

For weights that do not change: those of generation (``precision=int8`` of the commands that ask), and those that stay
frozen under an adapter. A weight then takes a quarter of its float32 memory, and a product with few rows, whose time is
the reading of the weight, a quarter of the time or less.

Symmetric, to the nearest, one scale per row (as in Dettmers et al. 2022, arXiv:2208.07339, section 2; without their
float part for outliers, and activations are not quantised). A weight moves by half a scale at most, and a scale is its
row's largest absolute value / 127, rounded up to bfloat16: torch's kernel for few rows takes scales of that type, and
with such scales all ways to compute give the same product but for the rounding of sums.

Which way is taken (measured on an EPYC with AVX-512 BF16, 2 threads, microseconds for (2048, 2048), torch 2.13):

====  ================  ====================  =====================  =======
rows  packed, bfloat16  dequantised bfloat16  dequantised float32    float32
====  ================  ====================  =====================  =======
1     54                362                   309                    197
16    374               450                   1431                   1090
32    721               584                   2208                   1689
256   5816              2386                  4458                   4336
====  ================  ====================  =====================  =======

Packed (``torch._weight_int8pack_mm``) for bfloat16 on a processor and few rows, dequantised otherwise. Given float32
the packed kernel takes six times as long as the float32 product for one row, so float32 does not go there.

The head and the embeddings stay as they are unless they are asked for: an error in the head is an error of the logits,
with nothing after it that would even it out, and embeddings are looked up, not multiplied.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from lmgraft.devices import resolve_precision
from lmgraft.seams.architecture import Architecture, Role
from lmgraft.training.products import product

__all__ = ["PROJECTIONS", "Int8Linear", "dequantise", "int8_product", "projections", "quantise", "quantize_"]

#: The roles of the weights that :func:`projections` names.
PROJECTIONS = frozenset(
    {Role.QUERY, Role.KEY, Role.VALUE, Role.ATTENTION_OUT, Role.MLP_IN, Role.MLP_GATE, Role.MLP_OUT}
)

LEVELS = 127
#: Up to so many rows the packed kernel is the fastest, where bfloat16 is multiplied natively; and where it is not.
PACKED_ROWS = 20
PACKED_ROWS_EMULATED = 63
#: It reads so many columns at once and has no code for a rest: with one it reads beyond the end.
PACKED_COLUMNS = 16


def quantise(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(out, in) floats as (out, in) int8 and (out,) bfloat16 scales; works on ``meta`` too.

    A row of zeros has the scale 1. A row with a value that is not finite has a scale that is not, so that it shows.
    """
    largest = weight.detach().float().abs().amax(dim=1)
    scale = _up(largest / LEVELS)
    scale = torch.where(largest == 0, torch.ones_like(scale), scale)
    levels = torch.round(weight.detach().float() / scale.float()[:, None]).clamp_(-LEVELS, LEVELS)
    return torch.nan_to_num_(levels).to(torch.int8), scale


def dequantise(levels: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The float32 weight that (out, in) int8 and (out,) scales stand for; exact."""
    return levels.float() * scale.float()[:, None]


def int8_product(x: torch.Tensor, levels: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """``x`` (..., in) times the transpose of the (out, in) weight, in the type of ``x``: (..., out).

    Differentiable once, with respect to ``x`` alone.
    """
    flat = x.reshape(-1, x.shape[-1])
    if torch.is_grad_enabled() and x.requires_grad:
        out: torch.Tensor = _Product.apply(flat, levels, scale)  # type: ignore[no-untyped-call]
    else:
        out = _forward(flat, levels, scale)
    return out.view(*x.shape[:-1], levels.shape[0])


class Int8Linear(nn.Module):
    """Stands where an ``nn.Linear`` stood: same call, same shapes.

    Its persistent buffers are ``levels`` (out, in) int8 and ``scale`` (out,) bfloat16, unfilled when made by sizes.
    ``bias`` is a parameter as it was, or None.
    """

    levels: torch.Tensor
    """(out, in) int8."""
    scale: torch.Tensor
    """(out,) bfloat16."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = False,
        device: torch.device | str | None = None,
        compute: torch.dtype | None = None,
    ) -> None:
        """:param compute: the type of the product whatever is given, such as bfloat16, which is what makes few rows
        fast on a processor; what comes out has the type of what is given. None: autocast's where that is on, or else
        the input's own."""
        super().__init__()
        self.in_features, self.out_features, self.compute = in_features, out_features, compute
        self.register_buffer("levels", torch.empty(out_features, in_features, dtype=torch.int8, device=device))
        self.register_buffer("scale", torch.empty(out_features, dtype=torch.bfloat16, device=device))
        self.bias = nn.Parameter(torch.empty(out_features, device=device)) if bias else None

    @classmethod
    def of(cls, linear: nn.Linear, compute: torch.dtype | None = None) -> Int8Linear:
        """The weight of ``linear``, quantised; its bias is the same parameter."""
        made = cls(linear.in_features, linear.out_features, device="meta", compute=compute)
        made.levels, made.scale = quantise(linear.weight)
        made.bias = linear.bias
        return made

    @property
    def weight(self) -> torch.Tensor:
        """The float32 weight that the integers stand for, made anew each time: for folding and for looking at."""
        return dequantise(self.levels, self.scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out)."""
        if self.compute is not None:
            out = int8_product(x.to(self.compute), self.levels, self.scale).to(x.dtype)
        elif torch.is_autocast_enabled(x.device.type):
            out = int8_product(x.to(torch.get_autocast_dtype(x.device.type)), self.levels, self.scale)
        else:
            out = int8_product(x, self.levels, self.scale)
        return out if self.bias is None else out + self.bias.to(out.dtype)

    def extra_repr(self) -> str:
        """As ``nn.Linear`` prints itself."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def projections(module: nn.Module, architecture: Architecture, head: bool = False) -> list[str]:
    """The names of the ``nn.Linear`` of ``module`` (classes of their own that derive from it too) whose weights have a
    role among :data:`PROJECTIONS`; with ``head`` also those of ``Role.HEAD`` that no other module shares."""
    uses: dict[int, int] = {}
    for _, parameter in module.named_parameters(remove_duplicate=False):
        uses[id(parameter)] = uses.get(id(parameter), 0) + 1
    found = []
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear):
            role = architecture.role(f"{name}.weight").role
            if role in PROJECTIONS or (head and role is Role.HEAD and uses[id(part.weight)] == 1):
                found.append(name)
    return found


def quantize_(
    module: nn.Module,
    which: Collection[str] | Callable[[str, nn.Linear], bool],
    compute: torch.dtype | None = None,
) -> None:
    """Puts an :class:`Int8Linear` in the place of each ``nn.Linear`` that ``which`` names, or says yes to; one at a
    time, so that no second copy of the weights is ever there. Names are the modules', without ``.weight``."""
    chosen = [
        (name, part)
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear) and (which(name, part) if callable(which) else name in which)
    ]
    while chosen:
        name, part = chosen.pop()
        owner, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(owner), attribute, Int8Linear.of(part, compute))
        del part


def _up(scale: torch.Tensor) -> torch.Tensor:
    """float32 as bfloat16, upwards: rounded down, the largest of a row would need the level 128."""
    near = scale.to(torch.bfloat16)
    return torch.where(near.float() < scale, torch.nextafter(near, torch.full_like(near, torch.inf)), near)


def _forward(x: torch.Tensor, levels: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """(N, in) -> (N, out)."""
    if _packed(x):
        out: torch.Tensor = torch._weight_int8pack_mm(x.contiguous(), levels, scale.to(x.dtype))
        return out
    if x.dtype is torch.bfloat16 and x.device.type == "cpu" and not _native():
        return (product(x.float(), levels.float()) * scale.float()).to(x.dtype)
    return product(x, levels.to(x.dtype)) * scale.to(x.dtype)


def _packed(x: torch.Tensor) -> bool:
    if x.dtype is not torch.bfloat16 or x.device.type != "cpu" or x.shape[1] % PACKED_COLUMNS:
        return False
    return 0 < x.shape[0] <= (PACKED_ROWS if _native() else PACKED_ROWS_EMULATED)


def _native() -> bool:
    return resolve_precision("auto", "cpu") == "bfloat16"


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, levels: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(levels, scale)
        return _forward(x, levels, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        levels, scale = ctx.saved_tensors
        weight = levels.to(grad.dtype)
        return functional.linear(grad * scale.to(grad.dtype), weight.t()), None, None
