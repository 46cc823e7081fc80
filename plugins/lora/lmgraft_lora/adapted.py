"""An architecture with LoRA in it: the same module, with two thin matrices at each target.

Canonical names stay what they are; a target has two more, ``TARGET.lora_a`` and ``TARGET.lora_b``. With an int8 base a
projection has ``levels`` and ``scale`` in the place of ``weight`` (:class:`lmgraft.training.int8.Int8Linear`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from lmgraft.seams.architecture import Architecture
from lmgraft.training.adapting import AdaptedArchitecture, Made
from lmgraft.training.int8 import Int8Linear, dequantise, projections, quantise
from lmgraft.training.products import product
from torch import nn

__all__ = ["LoraArchitecture"]

A, B = "lora_a", "lora_b"


class LoraArchitecture(AdaptedArchitecture):
    """Implements :class:`lmgraft.seams.adapter.Adapted`."""

    def __init__(
        self, inner: Architecture, targets: Mapping[str, tuple[int, int]], rank: int, scale: float, int8: bool
    ) -> None:
        """:param targets: name of an ``nn.Linear`` -> its (in, out)."""
        super().__init__(inner)
        self.targets, self.rank, self.scale = targets, rank, scale
        self._quantised = frozenset(projections(inner.build(2, "meta"), inner)) if int8 else frozenset[str]()

    def put(self, module: nn.Module, device: str) -> None:
        for name in self._quantised:
            owner, _, attribute = name.rpartition(".")
            plain = module.get_submodule(name)
            assert isinstance(plain, nn.Linear)
            made = Int8Linear(plain.in_features, plain.out_features, device=device)
            made.bias = plain.bias
            setattr(module.get_submodule(owner), attribute, made)
        for name, (wide, out) in self.targets.items():
            part = module.get_submodule(name)
            part.register_parameter(A, nn.Parameter(torch.empty(self.rank, wide, device=device)))
            part.register_parameter(B, nn.Parameter(torch.empty(out, self.rank, device=device)))
            part.register_forward_hook(partial(_beside, self.scale))

    def adds(self, name: str) -> str | None:
        target, _, last = name.rpartition(".")
        return f"{target}.weight" if last in (A, B) and target in self.targets else None

    def fill_new(self, name: str, tensor: torch.Tensor, generator: torch.Generator) -> None:
        """A within 1 / sqrt(in), B at 0."""
        if name.endswith(B):
            tensor.zero_()
        else:
            bound = tensor.shape[1] ** -0.5
            tensor.uniform_(-bound, bound, generator=generator)

    def fold(self, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Each target with s B A added."""
        makers: dict[str, Callable[[], torch.Tensor]] = {}
        for name in tensors:
            target, _, last = name.rpartition(".")
            if self.adds(name) is not None:
                continue
            if last in ("weight", "levels", "scale") and (target in self.targets or target in self._quantised):
                makers[f"{target}.weight"] = partial(self._weight, tensors, target)
            else:
                makers[name] = partial(tensors.__getitem__, name)
        return Made(makers)

    def _weight(self, tensors: Mapping[str, torch.Tensor], target: str) -> torch.Tensor:
        if target in self._quantised:
            weight = dequantise(tensors[f"{target}.levels"], tensors[f"{target}.scale"])
        else:
            weight = tensors[f"{target}.weight"].float()
        if target not in self.targets:
            return weight
        a, b = tensors[f"{target}.{A}"].float(), tensors[f"{target}.{B}"].float()
        return torch.addmm(weight, b, a, alpha=self.scale)

    def hold(self, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Projections quantised where the base is int8."""
        makers: dict[str, Callable[[], torch.Tensor]] = {}
        for name in tensors:
            target, _, last = name.rpartition(".")
            if last == "weight" and target in self._quantised:
                makers[f"{target}.levels"] = partial(_quantised, tensors, name, 0)
                makers[f"{target}.scale"] = partial(_quantised, tensors, name, 1)
            else:
                makers[name] = partial(tensors.__getitem__, name)
        return Made(makers)


def _quantised(tensors: Mapping[str, torch.Tensor], name: str, which: int) -> torch.Tensor:
    return quantise(tensors[name])[which]


def _beside(scale: float, part: nn.Module, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor:
    """Adds s B (A x) to what the target gives: through the activations, so that no matrix of the target's size has a
    gradient."""
    thin = scale * product(given[0], part.get_parameter(A))
    return out + product(thin, part.get_parameter(B)).to(out.dtype)
