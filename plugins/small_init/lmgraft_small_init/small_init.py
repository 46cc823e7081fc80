"""Two deviations, of the width and of width and depth.

``small_init``: Nguyen and Salazar 2019, "Transformers without Tears", arXiv:1910.05895, section 2.2: sqrt(2 / (d + 4
d)), which Xavier gives the MLP's matrices, for all matrices. ``wang``: 2 / (layers sqrt(d)) where a block writes to the
residual stream; from Wang's mesh-transformer-jax, told in Black et al. 2022 (GPT-NeoX-20B), arXiv:2204.06745, section
2.1, and read from its code: d is hidden for every matrix, the MLP's output and the embeddings too. Norms start at 1,
biases at 0.
"""

from __future__ import annotations

import math

import torch
from lmgraft.seams.architecture import Role, TensorRole
from lmgraft.seams.initializer import ModelShape

from lmgraft_small_init.plugin import Others, SmallInitConfig, WangConfig

__all__ = ["SmallInit", "Wang"]

RESIDUAL = (Role.ATTENTION_OUT, Role.MLP_OUT)


class SmallInit:
    """Implements :class:`lmgraft.seams.initializer.Initializer`."""

    def __init__(self, config: SmallInitConfig) -> None:
        self.config = config

    def fill(self, tensor: torch.Tensor, role: TensorRole, shape: ModelShape, generator: torch.Generator) -> None:
        _draw(tensor, role, small_init(shape), generator)


class Wang:
    """Implements :class:`lmgraft.seams.initializer.Initializer`."""

    def __init__(self, config: WangConfig) -> None:
        self.config = config

    def fill(self, tensor: torch.Tensor, role: TensorRole, shape: ModelShape, generator: torch.Generator) -> None:
        own = role.role in RESIDUAL or self.config.others is Others.wang
        _draw(tensor, role, wang(shape) if own else small_init(shape), generator)


def small_init(shape: ModelShape) -> float:
    return math.sqrt(2 / (5 * shape.hidden))


def wang(shape: ModelShape) -> float:
    return 2 / (shape.layers * math.sqrt(shape.hidden))


def _draw(tensor: torch.Tensor, role: TensorRole, std: float, generator: torch.Generator) -> None:
    if role.role is Role.NORM:
        tensor.fill_(1.0)
    elif role.role is Role.BIAS:
        tensor.zero_()
    else:
        tensor.normal_(0.0, std, generator=generator)
