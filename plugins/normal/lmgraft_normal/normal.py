"""Normal weights of one deviation, and smaller ones where a block writes to the residual stream.

Radford et al. 2019 (GPT-2), section 2.3: weights of residual layers are scaled by 1 / sqrt(N) with N their number,
two a block; 0.02 is the deviation of its code. Norms start at 1, biases at 0.
"""

from __future__ import annotations

import math

import torch
from lmgraft.seams.architecture import Role, TensorRole
from lmgraft.seams.initializer import ModelShape

from lmgraft_normal.plugin import NormalConfig

__all__ = ["Normal"]

RESIDUAL = (Role.ATTENTION_OUT, Role.MLP_OUT)


class Normal:
    """Implements :class:`lmgraft.seams.initializer.Initializer`."""

    def __init__(self, config: NormalConfig) -> None:
        self.config = config

    def fill(self, tensor: torch.Tensor, role: TensorRole, shape: ModelShape, generator: torch.Generator) -> None:
        if role.role is Role.NORM:
            tensor.fill_(1.0)
        elif role.role is Role.BIAS:
            tensor.zero_()
        else:
            std = self.config.std
            if self.config.scale_residual and role.role in RESIDUAL:
                std /= math.sqrt(2 * shape.layers)
            tensor.normal_(0.0, std, generator=generator)
