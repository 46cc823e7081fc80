"""Matrices whose deviation keeps the variance of signals and gradients (Glorot and Bengio 2010, section 4.2).

Every canonical matrix by itself: q, k and v are three matrices, not one of three times the outputs (which would make
them smaller by sqrt(2), as fairseq's fused projection does).
"""

from __future__ import annotations

import math

import torch
from lmgraft.seams.architecture import Role, TensorRole
from lmgraft.seams.initializer import ModelShape

from lmgraft_xavier.plugin import Distribution, XavierConfig

__all__ = ["Xavier"]

TABLES = (Role.EMBEDDING, Role.POSITION)


class Xavier:
    """Implements :class:`lmgraft.seams.initializer.Initializer`."""

    def __init__(self, config: XavierConfig) -> None:
        self.config = config

    def fill(self, tensor: torch.Tensor, role: TensorRole, shape: ModelShape, generator: torch.Generator) -> None:
        if role.role is Role.NORM:
            tensor.fill_(1.0)
        elif role.role is Role.BIAS or tensor.dim() < 2:
            tensor.zero_()
        elif role.role in TABLES:
            std = self.config.embedding_std
            tensor.normal_(0.0, shape.hidden**-0.5 if std is None else std, generator=generator)
        else:
            std = math.sqrt(2.0 / (tensor.shape[0] + tensor.shape[1]))
            if self.config.distribution is Distribution.normal:
                tensor.normal_(0.0, std, generator=generator)
            else:
                bound = math.sqrt(3.0) * std
                tensor.uniform_(-bound, bound, generator=generator)
