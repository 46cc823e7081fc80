"""Faults of adapters: one that starts with a bang, one that exports what was not trained, one with dice of its own."""

from __future__ import annotations

from faults.fault import Fault, light

__all__ = ["FAULTS"]

_LIGHT = light(
    "adapter",
    "Two thin matrices beside queries",
    '''
    rank: int = 4
    """Rows of the first, columns of the second."""
    strength: float = 2.0
    """What their product is multiplied with."""
    ''',
)
_PART = """\
from functools import partial

import torch
from lmgraft.seams.architecture import Role
from lmgraft.training.adapting import AdaptedArchitecture, Made
from torch import nn


class Part:
    def __init__(self, config):
        self.config = config

    def adapt(self, architecture):
        return Adapted(architecture, self.config.rank, self.config.strength)


class Adapted(AdaptedArchitecture):
    def __init__(self, inner, rank, strength):
        super().__init__(inner)
        self.rank, self.strength = rank, strength

    def put(self, module, device):
        for name, part in list(module.named_modules()):
            if isinstance(part, nn.Linear) and self.inner.role(f"{name}.weight").role is Role.QUERY:
                part.into = nn.Parameter(torch.empty(self.rank, part.in_features, device=device))
                part.back = nn.Parameter(torch.empty(part.out_features, self.rank, device=device))
                part.register_forward_hook(self.beside)

    def beside(self, part, given, out):
        return out + self.strength * given[0] @ part.into.T @ part.back.T

    def adds(self, name):
        target, _, last = name.rpartition(".")
        return f"{target}.weight" if last in ("into", "back") else None

    def fill_new(self, name, tensor, generator):
        if name.endswith("into"):
            tensor.normal_(0.0, 0.02, generator=generator)
        else:
            tensor.zero_()

    def fold(self, tensors):
        own = [name for name in tensors if self.adds(name) is None]
        return Made({name: partial(self.folded, tensors, name) for name in own})

    def folded(self, tensors, name):
        target = name.removesuffix(".weight")
        if f"{target}.into" not in tensors:
            return tensors[name]
        more = tensors[f"{target}.back"] @ tensors[f"{target}.into"]
        return tensors[name] + self.strength * more
"""

#: Written from a text that starts all matrices alike.
LOUD_START = Fault(
    name="loud-start",
    seam="adapter",
    files={"plugin.py": _LIGHT, "part.py": _PART},
    slips=(("        else:\n            tensor.zero_()", "        else:\n            tensor.fill_(0.02)"),),
    check="test_untrained_it_changes_nothing",
    says=("loud_start", "before it is trained", "at 0"),
)

#: The strength came later, and the fold was left as it was.
WEAK_FOLD = Fault(
    name="weak-fold",
    seam="adapter",
    files={"plugin.py": _LIGHT, "part.py": _PART},
    slips=(("return tensors[name] + self.strength * more", "return tensors[name] + more"),),
    check="test_folded_it_answers_alike",
    says=("weak_fold", "answers otherwise than what was trained", "fold what forward computes"),
)

_KEPT = "kept = nn.functional.dropout(given[0], 0.1, part.training)"
_DROPPING = _PART.replace(
    "return out + self.strength * given[0] @",
    f"{_KEPT}\n        return out + self.strength * kept @",
)

#: A generator seeded once, so that every run drops the same: but one that was interrupted begins to draw anew.
OWN_DICE = Fault(
    name="own-dice",
    seam="adapter",
    files={"plugin.py": _LIGHT, "part.py": _DROPPING},
    slips=(
        (
            "self.rank, self.strength = rank, strength",
            "self.rank, self.strength, self.dice = rank, strength, torch.Generator().manual_seed(0)",
        ),
        (
            _KEPT,
            "kept = given[0]\n        if part.training:\n"
            "            kept = kept * (torch.rand(kept.shape, generator=self.dice) > 0.1) / 0.9",
        ),
    ),
    check="test_interrupted_it_goes_on_alike",
    says=("own_dice", "after a kill", "seeded before each step"),
)

FAULTS = [LOUD_START, WEAK_FOLD, OWN_DICE]
