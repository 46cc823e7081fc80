"""ALiBi (Press et al. 2022, arXiv:2108.12409): a penalty on the distance, in place of positions."""

from __future__ import annotations

import math
from functools import lru_cache

import torch

__all__ = ["bias", "slopes"]


@lru_cache(maxsize=32)
def slopes(heads: int) -> tuple[float, ...]:
    """How much a step of distance costs in each head: a geometric series down to 2^-8.

    Where ``heads`` is no power of two: those of the next smaller power, then every second one of the next larger, as
    in the authors' code and in transformers.
    """
    whole = 1 << int(math.log2(heads))
    first = [2.0 ** (-8.0 * (i + 1) / whole) for i in range(whole)]
    between = [2.0 ** (-4.0 * (i + 1) / whole) for i in range(0, 2 * (heads - whole), 2)]
    return tuple(first + between)


def bias(heads: int, distances: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(1, heads, ...) to add to scores at ``distances`` (...), how far the key lies before the query.

    The distance itself, not the key's position as in BLOOM's code: the softmax is the same, and what is near, where
    the weight is, survives rounding to bfloat16.
    """
    scale = torch.tensor(slopes(heads), device=distances.device)
    return (-scale.view(1, heads, *(1,) * distances.dim()) * distances).to(dtype)
