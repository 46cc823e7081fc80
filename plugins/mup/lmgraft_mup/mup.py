"""The maximal update parametrisation (Yang et al. 2022, "Tensor Programs V", arXiv:2203.03466), by weights alone.

Table 3's form for Adam: how a weight starts and how fast it learns depend on which of its two sides grow with the
model's width. ``r`` is hidden / base_hidden, ``std`` the deviation at the base.

===========================  ==============  ==============
of width to width            std / sqrt(r)   rate / r
of a constant to width       std             rate
of width to a constant       std / r         rate / r
===========================  ==============  ==============

The first are the projections of blocks, the second embeddings, position tables, gains of norms and biases, the third an
untied head. Nothing is multiplied in the forward pass, so that the model is a plain one of its family.

Definition 4.1 has attention divide by the width of a head, d, where the families divide by its root. That is the same
as to multiply the queries with sqrt(base_head_dim / d), and so it goes into the projection that makes them, start and
learning rate alike (Adam's steps are as large whatever a weight's gradients are multiplied with, so a weight c W learns
as W does where its rate is c times W's). A bias of queries is a bias among others here: its rate stays.

Depth is no part of muP; the 1 / sqrt(2 layers) of residual outputs is ``normal``'s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from lmgraft.errors import UserError
from lmgraft.seams.architecture import Role, TensorRole
from lmgraft.seams.initializer import ModelShape

from lmgraft_mup.plugin import MupConfig, tied

__all__ = ["Mup"]

RESIDUAL = (Role.ATTENTION_OUT, Role.MLP_OUT)
#: Of a constant number of things to width, or of one dimension.
FROM_CONSTANT = (Role.EMBEDDING, Role.POSITION, Role.NORM, Role.BIAS)


class Mup:
    """Implements :class:`lmgraft.seams.initializer.ScalingInitializer`."""

    def __init__(self, config: MupConfig) -> None:
        self.config = config

    def fill(self, tensor: torch.Tensor, role: TensorRole, shape: ModelShape, generator: torch.Generator) -> None:
        """:raises UserError: the head is the embedding."""
        _refuse_tied(shape)
        config = self.config
        zero = (config.zero_head and role.role is Role.HEAD) or (config.zero_query and role.role is Role.QUERY)
        if role.role is Role.NORM:
            tensor.fill_(1.0)
        elif role.role is Role.BIAS or zero:
            tensor.zero_()
        else:
            std = config.std * self._start(role.role, tuple(tensor.shape), shape)
            if config.scale_residual and role.role in RESIDUAL:
                std /= math.sqrt(2 * shape.layers)
            tensor.normal_(0.0, std, generator=generator)

    def lr_scale(self, role: TensorRole, size: Sequence[int], shape: ModelShape) -> float:
        """:raises UserError: the head is the embedding."""
        _refuse_tied(shape)
        reads, _ = _growing(role.role, size, shape)
        return self._query(role.role, shape) / (self._ratio(shape) if reads else 1.0)

    def _start(self, role: Role, size: Sequence[int], shape: ModelShape) -> float:
        """What the base's deviation is multiplied with."""
        reads, writes = _growing(role, size, shape)
        if not reads:
            return 1.0
        ratio = self._ratio(shape)
        return self._query(role, shape) / (math.sqrt(ratio) if writes else ratio)

    def _ratio(self, shape: ModelShape) -> float:
        return shape.hidden / self.config.base_hidden

    def _query(self, role: Role, shape: ModelShape) -> float:
        """What makes attention's 1 / sqrt(d) to a 1 / d that is the same at the base."""
        base = self.config.base_head_dim
        if role is not Role.QUERY or base is None or shape.head_dim is None:
            return 1.0
        return math.sqrt(base / shape.head_dim)


def _growing(role: Role, size: Sequence[int], shape: ModelShape) -> tuple[bool, bool]:
    """Whether what a weight reads grows with the model's width, and whether what it writes does."""
    if role in FROM_CONSTANT or len(size) < 2:
        return False, True
    if role is Role.HEAD:
        return True, False
    if role is Role.ADAPTER:  # an adapter's own rules hold for what it adds
        return False, True
    if role is Role.OTHER:
        # Nothing but its shape tells a router, which writes a number for each expert, from a matrix of a recurrence: a
        # side as wide as the residual stream is taken to grow with it. A convolution reads its inner dimensions.
        return math.prod(size[1:]) >= shape.hidden, size[0] >= shape.hidden
    return True, True


def _refuse_tied(shape: ModelShape) -> None:
    if shape.tied:
        raise UserError(tied("the initializer mup does not fit this model"))
