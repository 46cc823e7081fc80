"""An architecture with LoRA in it: the same module, with two thin matrices at each target.

Of an ``nn.Linear`` the canonical names stay what they are, and there are two more, ``LINEAR.lora_a`` and
``LINEAR.lora_b``. With an int8 base a projection has ``levels`` and ``scale`` in the place of ``weight``
(:class:`lmgraft.training.int8.Int8Linear`); with a bfloat16 one its ``weight`` is a buffer of that type
(:class:`lmgraft.training.bfloat16.Bfloat16Linear`). Any other matrix ``OWNER.NAME`` is parametrised as torch does it:
it is ``OWNER.parametrizations.NAME.original``, with ``0.lora_a`` and ``0.lora_b`` beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from lmgraft.seams.architecture import Architecture, TensorRole
from lmgraft.training import weights
from lmgraft.training.adapting import AdaptedArchitecture, Made
from lmgraft.training.bfloat16 import Bfloat16Linear
from lmgraft.training.int8 import Int8Linear, dequantise, projections, quantise
from lmgraft.training.products import product
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

from lmgraft_lora.plugin import Base

__all__ = ["LoraArchitecture", "Targets"]

A, B = "lora_a", "lora_b"
#: What stands where a projection stood whose weight is not held as it is.
HOLDERS: Mapping[Base, type[Bfloat16Linear | Int8Linear]] = {Base.bfloat16: Bfloat16Linear, Base.int8: Int8Linear}


@dataclass(frozen=True, slots=True)
class Targets:
    """What is adapted, with its (out, in)."""

    linears: Mapping[str, tuple[int, int]]
    """By the names of modules: through their activations."""
    matrices: Mapping[str, tuple[int, int]]
    """By the names of parameters: through the matrix itself."""


class LoraArchitecture(AdaptedArchitecture):
    """Implements :class:`lmgraft.seams.adapter.Adapted`."""

    def __init__(
        self, inner: Architecture, targets: Targets, rank: int, scale: float, base: Base, dropout: float = 0.0
    ) -> None:
        """:param dropout: of what the thin matrices of linears are given, while training; ``targets.matrices`` are
        given nothing that could be dropped."""
        super().__init__(inner)
        self.targets, self.rank, self.scale, self.dropout = targets, rank, scale, dropout
        self._holder = HOLDERS.get(base)
        self._held = frozenset(projections(inner.build(2, "meta"), inner)) if self._holder else frozenset[str]()
        self._quantised = self._held if base is Base.int8 else frozenset[str]()
        #: The name of a parametrised matrix -> its name in the inner module.
        self._originals = {f"{_beneath(name)}.original": name for name in targets.matrices}
        #: The place of two thin matrices -> the name of what they stand beside, in the inner module.
        self._places = {name: f"{name}.weight" for name in targets.linears}
        self._places |= {f"{_beneath(name)}.0": name for name in targets.matrices}

    def build(self, vocab_size: int, device: str = "meta") -> nn.Module:
        """As it is said there. Where weights are held smaller, the whole ones are never in memory, unless the inner
        module computes tables when it is made."""
        if not self._held or device == "meta" or any(True for _ in self.inner.build(vocab_size, "meta").buffers()):
            return super().build(vocab_size, device)
        module = super().build(vocab_size, "meta")
        weights.allocate(module, device)
        return module

    def put(self, module: nn.Module, device: str) -> None:
        """Smaller weights where they are wanted, and the thin matrices."""
        for name in self._held:
            owner, _, attribute = name.rpartition(".")
            plain = module.get_submodule(name)
            assert isinstance(plain, nn.Linear)
            assert self._holder is not None
            made = self._holder(plain.in_features, plain.out_features, device=device)
            made.bias = plain.bias
            setattr(module.get_submodule(owner), attribute, made)
        for name, shape in self.targets.linears.items():
            part = module.get_submodule(name)
            _add(part, shape, self.rank, device)
            part.register_forward_hook(partial(_beside, self.scale, self.dropout))
        for name, shape in self.targets.matrices.items():
            owner, _, attribute = name.rpartition(".")
            made_of = _Sum(shape, self.rank, self.scale, device)
            parametrize.register_parametrization(module.get_submodule(owner), attribute, made_of, unsafe=True)

    def adds(self, name: str) -> str | None:
        place, _, last = name.rpartition(".")
        return self._places.get(place) if last in (A, B) else None

    def role(self, name: str) -> TensorRole:
        return super().role(self._originals.get(name, name))

    def fill_new(self, name: str, tensor: torch.Tensor, generator: torch.Generator) -> None:
        """A within 1 / sqrt(in), B at 0."""
        if name.endswith(B):
            tensor.zero_()
        else:
            bound = tensor.shape[1] ** -0.5
            tensor.uniform_(-bound, bound, generator=generator)

    def fold(self, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Each target with s B A added, and what is held smaller as the float32 that it stands for."""
        beside = {name: place for place, name in self._places.items()}
        makers: dict[str, Callable[[], torch.Tensor]] = {}
        for name in tensors:
            owner, _, last = name.rpartition(".")
            if self.adds(name) is not None:
                continue
            held = last in ("levels", "scale") and owner in self._quantised
            plain = f"{owner}.weight" if held else self._originals.get(name, name)
            makers[plain] = partial(self._folded, tensors, owner if held else name, held, beside.get(plain))
        return Made(makers)

    def _folded(self, tensors: Mapping[str, torch.Tensor], name: str, held: bool, place: str | None) -> torch.Tensor:
        tensor = dequantise(tensors[f"{name}.levels"], tensors[f"{name}.scale"]) if held else tensors[name]
        if place is None:
            return tensor.float()
        a, b = tensors[f"{place}.{A}"].float(), tensors[f"{place}.{B}"].float()
        if not b.any():  # at its start, as in a layer that is not trained: adding 0 would make 0 of -0
            return tensor.float()
        return torch.addmm(tensor.float(), b, a, alpha=self.scale)

    def hold(self, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Under the names of the adapted module; projections quantised where the base is int8. Those of a bfloat16
        base are rounded as they are copied into it."""
        own = {name: held for held, name in self._originals.items()}
        makers: dict[str, Callable[[], torch.Tensor]] = {}
        for name in tensors:
            target, _, last = name.rpartition(".")
            if last == "weight" and target in self._quantised:
                makers[f"{target}.levels"] = partial(_quantised, tensors, name, 0)
                makers[f"{target}.scale"] = partial(_quantised, tensors, name, 1)
            else:
                makers[own.get(name, name)] = partial(tensors.__getitem__, name)
        return Made(makers)


class _Sum(nn.Module):
    """A matrix and s B A: what whoever reads the matrix is given. The gradient of A and B goes through one of the whole
    matrix, unlike that of a linear's."""

    def __init__(self, shape: tuple[int, int], rank: int, scale: float, device: str) -> None:
        super().__init__()
        self.scale = scale
        _add(self, shape, rank, device)

    def forward(self, matrix: torch.Tensor) -> torch.Tensor:
        return torch.addmm(matrix, self.get_parameter(B), self.get_parameter(A), alpha=self.scale)


def _beneath(name: str) -> str:
    """Where torch keeps what a parametrised matrix is made of."""
    owner, _, attribute = name.rpartition(".")
    return ".".join(filter(None, (owner, "parametrizations", attribute)))


def _add(part: nn.Module, shape: tuple[int, int], rank: int, device: str) -> None:
    part.register_parameter(A, nn.Parameter(torch.empty(rank, shape[1], device=device)))
    part.register_parameter(B, nn.Parameter(torch.empty(shape[0], rank, device=device)))


def _quantised(tensors: Mapping[str, torch.Tensor], name: str, which: int) -> torch.Tensor:
    return quantise(tensors[name])[which]


def _beside(
    scale: float, dropout: float, part: nn.Module, given: tuple[torch.Tensor, ...], out: torch.Tensor
) -> torch.Tensor:
    """Adds s B (A x) to what the target gives: through the activations, so that no matrix of the target's size has a
    gradient. What is dropped of x is drawn from torch's own generator, which the loop seeds for each step."""
    x = functional.dropout(given[0], dropout) if dropout and part.training else given[0]
    thin = scale * product(x, part.get_parameter(A))
    return out + product(thin, part.get_parameter(B)).to(out.dtype)
