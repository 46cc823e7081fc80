"""LoRA (Hu et al. 2021, arXiv:2106.09685): W stays, and what is learnt is s B A beside it, A (rank, in), B (out, rank).

A starts uniform within 1 / sqrt(in) (the authors' code and peft: ``kaiming_uniform_`` with a = sqrt(5)), B at 0, so
that an adapted model that is not trained answers as before. s is alpha / rank (section 4.1), or alpha / sqrt(rank) with
``rslora`` (Kalajdzievski 2023, arXiv:2312.03732).

Weights of ``nn.Linear`` are adapted through their activations, so no matrix of a weight's size has a gradient. Other
matrices (the lstm's gates) are parametrised.

Deviations from the paper: all projections are targets unless others are named (the paper adapts query and value; QLoRA,
arXiv:2305.14314, section 4, needs all to match full training), and there is no dropout on the adapter's input: models
here have none, and a stage that was interrupted must end as one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from lmgraft.errors import Problem, UserError
from lmgraft.seams.adapter import Adapted
from lmgraft.seams.architecture import Architecture, Role
from lmgraft.training.int8 import projections
from torch import nn

from lmgraft_lora.adapted import LoraArchitecture, Targets
from lmgraft_lora.plugin import TARGETS, Base, LoraConfig

__all__ = ["Lora"]


class Lora:
    """Implements :class:`lmgraft.seams.adapter.Adapter`."""

    def __init__(self, config: LoraConfig) -> None:
        self.config = config

    def adapt(self, architecture: Architecture) -> Adapted:
        """The architecture with thin matrices beside its targets.

        :raises UserError: it has no matrix of a role in ``targets``; a weight of such a role is no matrix; or the base
            is to be held as integers, and it has no projection that could be.
        """
        wanted = frozenset(Role(name) for name in self.config.targets)
        module = architecture.build(2, "meta")
        targets = {
            name: tensor
            for name, tensor in module.named_parameters()
            # Vectors of Role.OTHER (a decay, a gate's offset) are passed over; those of the other roles are matrices.
            if (role := architecture.role(name).role) in wanted and not (role is Role.OTHER and tensor.dim() < 2)
        }
        self._check(architecture, module, targets)
        root = math.sqrt(self.config.rank) if self.config.rslora else self.config.rank
        linears = {f"{name}.weight" for name, part in module.named_modules() if isinstance(part, nn.Linear)}
        shapes = {name: (tensor.shape[0], tensor.shape[1]) for name, tensor in targets.items()}
        return LoraArchitecture(
            architecture,
            Targets(
                {name.removesuffix(".weight"): shape for name, shape in shapes.items() if name in linears},
                {name: shape for name, shape in shapes.items() if name not in linears},
            ),
            self.config.rank,
            self.config.alpha / root,
            self.config.base is Base.int8,
        )

    def _check(self, architecture: Architecture, module: nn.Module, targets: Mapping[str, torch.Tensor]) -> None:
        named = ", ".join(self.config.targets)
        if not targets:
            roles = {
                architecture.role(name).role.value for name, tensor in module.named_parameters() if tensor.dim() == 2
            }
            there = [name for name in TARGETS if name in roles]
            cause = f"the architecture's matrices that it could be put to are of the roles {', '.join(there) or 'none'}"
            remedy = f"targets=[{','.join(there)}]" if there else "train without an adapter"
            raise UserError(Problem(f"lora finds nothing to adapt: targets is {named}", cause, remedy))
        for name, tensor in targets.items():
            if tensor.dim() != 2:
                cause = (
                    f"it is of role {architecture.role(name).role.value} and has {tensor.dim()} dimensions, no matrix"
                )
                raise UserError(Problem(f"lora cannot be put to {name}", cause, "name other roles in targets"))
        if self.config.base is Base.int8 and not projections(module, architecture):
            cause = "integers are for projections, and the architecture has no nn.Linear of such a role"
            raise UserError(Problem("lora's base=int8 would hold nothing as integers", cause, "base=float32"))
