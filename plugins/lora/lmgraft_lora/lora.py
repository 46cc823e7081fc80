"""LoRA (Hu et al. 2021, arXiv:2106.09685): W stays, and what is learnt is s B A beside it, A (rank, in), B (out, rank).

A starts uniform within 1 / sqrt(in) (the authors' code and peft: ``kaiming_uniform_`` with a = sqrt(5)), B at 0, so
that an adapted model that is not trained answers as before. s is alpha / rank (section 4.1), or alpha / sqrt(rank) with
``rslora`` (Kalajdzievski 2023, arXiv:2312.03732).

Deviations from the paper: all projections are targets unless others are named (the paper adapts query and value; QLoRA,
arXiv:2305.14314, section 4, needs all to match full training), and there is no dropout on the adapter's input: models
here have none, and a stage that was interrupted must end as one that was not.
"""

from __future__ import annotations

import math

from lmgraft.errors import Problem, UserError
from lmgraft.seams.adapter import Adapted
from lmgraft.seams.architecture import Architecture, Role
from lmgraft.training.int8 import PROJECTIONS
from torch import nn

from lmgraft_lora.adapted import LoraArchitecture
from lmgraft_lora.plugin import Base, LoraConfig

__all__ = ["Lora"]


class Lora:
    """Implements :class:`lmgraft.seams.adapter.Adapter`."""

    def __init__(self, config: LoraConfig) -> None:
        self.config = config

    def adapt(self, architecture: Architecture) -> Adapted:
        """The architecture with thin matrices beside its targets.

        :raises UserError: none of its ``nn.Linear`` has a weight of a role in ``targets``; or a weight of such a role
            is held by something else, which an adapter cannot stand beside.
        """
        wanted = frozenset(Role(name) for name in self.config.targets)
        module = architecture.build(2, "meta")
        targets = {
            name: (part.in_features, part.out_features)
            for name, part in module.named_modules()
            if isinstance(part, nn.Linear) and architecture.role(f"{name}.weight").role in wanted
        }
        self._check(architecture, module, targets, wanted)
        root = math.sqrt(self.config.rank) if self.config.rslora else self.config.rank
        scale = self.config.alpha / root
        return LoraArchitecture(architecture, targets, self.config.rank, scale, self.config.base is Base.int8)

    def _check(
        self,
        architecture: Architecture,
        module: nn.Module,
        targets: dict[str, tuple[int, int]],
        wanted: frozenset[Role],
    ) -> None:
        named = ", ".join(sorted(role.value for role in wanted))
        roles = {name: architecture.role(name).role for name, _ in module.named_parameters()}
        others = [
            name for name, role in roles.items() if role in wanted and name.removesuffix(".weight") not in targets
        ]
        if others:
            fact = f"lora cannot be put to {others[0]}"
            cause = f"it is a weight of role {roles[others[0]].value} and not that of an nn.Linear, which lora adds to"
            left = sorted({role.value for name, role in roles.items() if role in wanted and name not in others})
            raise UserError(Problem(fact, cause, f"targets={left}" if left else "train without an adapter"))
        if not targets:
            there = sorted({role.value for role in roles.values() if role in PROJECTIONS})
            cause = f"the architecture's weights that it could be put to are of the roles {', '.join(there) or 'none'}"
            remedy = f"targets=[{','.join(there)}]" if there else "train without an adapter"
            raise UserError(Problem(f"lora finds nothing to adapt: targets is {named}", cause, remedy))
