"""Weights small enough that a deep stack without norms moves by O(learning rate) in its first step.

Huang et al. 2020, "Improving Transformer Optimization Through Better Initialization" (ICML; T-Fixup). A decoder-only
block has two residual branches, which is the paper's encoder block; ``docs/tfixup.md`` derives the constant.
Deviation: the gate of a gated MLP, which the paper does not know, keeps Xavier's deviation (derived there too).
"""

from __future__ import annotations

import math

import torch
from lmgraft.seams.architecture import Role, TensorRole
from lmgraft.seams.initializer import ModelShape

from lmgraft_tfixup.plugin import Distribution, TFixupConfig

__all__ = ["TFixup", "branch_scale", "table_scale"]

TABLES = (Role.EMBEDDING, Role.POSITION)
BRANCH = (Role.VALUE, Role.ATTENTION_OUT, Role.MLP_IN, Role.MLP_OUT)


def table_scale(layers: int) -> float:
    """(9N)^(-1/4), of embeddings and position tables."""
    return float((9 * layers) ** -0.25)


def branch_scale(layers: int) -> float:
    """0.67 N^(-1/4), of the matrices that a residual branch is linear in."""
    return float(0.67 * layers**-0.25)


class TFixup:
    """Implements :class:`lmgraft.seams.initializer.Initializer`."""

    def __init__(self, config: TFixupConfig) -> None:
        self.config = config

    def fill(self, tensor: torch.Tensor, role: TensorRole, shape: ModelShape, generator: torch.Generator) -> None:
        if role.role is Role.NORM:
            tensor.fill_(1.0)
        elif role.role is Role.BIAS or tensor.dim() < 2:
            tensor.zero_()
        elif role.role in TABLES:
            tensor.normal_(0.0, shape.hidden**-0.5 * table_scale(shape.layers), generator=generator)
        else:
            std = math.sqrt(2.0 / (tensor.shape[0] + tensor.shape[1]))
            if role.role in BRANCH:
                std *= branch_scale(shape.layers)
            if self.config.distribution is Distribution.normal:
                tensor.normal_(0.0, std, generator=generator)
            else:
                bound = math.sqrt(3.0) * std
                tensor.uniform_(-bound, bound, generator=generator)
