"""Glorot and Bengio 2010 (AISTATS, equation 16): uniform within sqrt(6 / (fan_in + fan_out)).

Embeddings are look-ups and have no fan: normal with deviation hidden^(-1/2), so that a token's vector has length 1
(as fairseq does, and Vaswani et al. 2017 for a head tied to it). q, k and v are apart here, so each has the fan of its
own; implementations that fuse them draw smaller ones. Norms start at 1, biases at 0.
"""

from __future__ import annotations

import torch
from lmgraft.seams.architecture import Role, TensorRole
from lmgraft.seams.initializer import ModelShape

from lmgraft_xavier.plugin import XavierConfig

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
            tensor.normal_(0.0, self.config.embedding or shape.hidden**-0.5, generator=generator)
        else:
            torch.nn.init.xavier_uniform_(tensor, generator=generator)
