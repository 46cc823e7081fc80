"""LoRA (Hu et al. 2021, arXiv:2106.09685): W stays, and what is learnt is s B A beside it, A (rank, in), B (out, rank).

A starts uniform within 1 / sqrt(in) (the authors' code and peft: ``kaiming_uniform_`` with a = sqrt(5)), B at 0, so
that an adapted model that is not trained answers as before. s is alpha / rank (section 4.1), or alpha / sqrt(rank) with
``rslora`` (Kalajdzievski 2023, arXiv:2312.03732).

Weights of ``nn.Linear`` are adapted through their activations, so no matrix of a weight's size has a gradient. Other
matrices (the lstm's gates) are parametrised.

Deviations from the paper: all projections are targets unless others are named (the paper adapts query and value; QLoRA,
arXiv:2305.14314, section 4, needs all to match full training), and dropout of the adapter's input is 0 unless it is
set, as in peft. What is dropped is drawn from torch's own generator: core seeds it for each step, so that a stage that
was interrupted ends as one that was not.
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

        :raises UserError: it has no matrix of a role in ``targets``; a weight of such a role is no matrix; the base is
            to be held smaller, and it has no projection that could be; or there is to be dropout, and a target is no
            weight of an ``nn.Linear``, whose input alone could be dropped.
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
        others = [name for name in targets if name not in linears]
        if self.config.dropout and others:
            cause = "it is read as a matrix, and what could be dropped is the input of an nn.Linear alone"
            raise UserError(
                Problem(f"lora's dropout cannot be put to {others[0]}", cause, "dropout=0, or other targets")
            )
        shapes = {name: (tensor.shape[0], tensor.shape[1]) for name, tensor in targets.items()}
        return LoraArchitecture(
            architecture,
            Targets(
                {name.removesuffix(".weight"): shape for name, shape in shapes.items() if name in linears},
                {name: shape for name, shape in shapes.items() if name not in linears},
            ),
            self.config.rank,
            self.config.alpha / root,
            self.config.base,
            self.config.dropout,
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
        base = self.config.base
        if base is not Base.float32 and not projections(module, architecture):
            cause = f"{base.value} is for projections, and the architecture has no nn.Linear of such a role"
            fact = f"lora's base={base.value} would hold nothing as {base.value}"
            raise UserError(Problem(fact, cause, "base=float32"))
