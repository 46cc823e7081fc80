"""T-Fixup (Huang, Perez, Ba and Volkovs 2020, "Improving Transformer Optimization Through Better Initialization",
ICML, section 3.3) for decoder-only models.

Xavier for all matrices; embeddings normal with deviation hidden^(-1/2), times (9 N)^(-1/4); value, attention output
and the MLP's matrices times 0.67 N^(-1/4), N layers; queries and keys as they are. The paper has no decoder-only model:
a block of one has the two residual branches of the paper's *encoder* block, so that one's constant is taken. Ours
beyond the paper: position tables are scaled as embeddings, since they enter the same sum; a gate as the matrix beside
it; an untied head stays Xavier. The derivation and measurements are in docs/tfixup.md.
"""

from __future__ import annotations

import torch
from lmgraft.seams.architecture import Role, TensorRole
from lmgraft.seams.initializer import ModelShape

from lmgraft_tfixup.plugin import TFixupConfig

__all__ = ["TFixup"]

TABLES = (Role.EMBEDDING, Role.POSITION)
BRANCH = (Role.VALUE, Role.ATTENTION_OUT, Role.MLP_IN, Role.MLP_GATE, Role.MLP_OUT)


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
            start = self.config.embedding or shape.hidden**-0.5
            tensor.normal_(0.0, start * (9 * shape.layers) ** -0.25, generator=generator)
        else:
            gain = self.config.branch * shape.layers**-0.25 if role.role in BRANCH else 1.0
            torch.nn.init.xavier_uniform_(tensor, gain=gain, generator=generator)
