"""An architecture with LoRA in it: the same module, with two thin matrices at each target, and its way to a folder.

Canonical names stay what they are; a target has two more, ``TARGET.lora_a`` and ``TARGET.lora_b``. With an int8 base a
projection has ``levels`` and ``scale`` in the place of ``weight`` (:class:`lmgraft.training.int8.Int8Linear`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lmgraft.seams.architecture import Architecture, DecoderSpec, Role, TensorRole
from lmgraft.training import weights
from lmgraft.training.int8 import Int8Linear, dequantise, projections, quantise
from lmgraft.training.products import product
from torch import nn

__all__ = ["LoraArchitecture"]

A, B = "lora_a", "lora_b"


class LoraArchitecture:
    """Implements :class:`lmgraft.seams.adapter.Adapted` around another architecture."""

    def __init__(
        self, inner: Architecture, targets: Mapping[str, tuple[int, int]], rank: int, scale: float, int8: bool
    ) -> None:
        """:param targets: name of an ``nn.Linear`` -> its (in, out)."""
        self.inner, self.targets, self.rank, self.scale, self.int8 = inner, targets, rank, scale, int8
        self._quantised = frozenset(projections(inner.build(1, "meta"), inner)) if int8 else frozenset[str]()

    # --- the module -------------------------------------------------------------------------------------------------

    def build(self, vocab_size: int, device: str = "meta") -> nn.Module:
        """The inner module, adapted; ``generation()`` gives a plain one with the adapter folded in."""
        module = self.inner.build(vocab_size, device)
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
            part.register_forward_hook(_beside(self.scale))
        # On the object: one of the class would read the weights without what stands beside them.
        module.generation = lambda: self._folded(module, vocab_size)  # type: ignore[assignment]
        return module

    def _folded(self, module: nn.Module, vocab_size: int) -> nn.Module:
        """A module of the inner architecture with this one's answers, made for generation where that has such."""
        device = next(module.parameters()).device
        plain = weights.materialise(self.inner, vocab_size, str(device))
        folded = self._fold(weights.canonical(module))
        with torch.no_grad():
            for name, tensor in weights.canonical(plain).items():
                tensor.copy_(folded[name])
        plain.train(module.training)
        made: Callable[[], nn.Module] | None = getattr(plain, "generation", None)
        return plain if made is None else made()

    def fill_new(self, name: str, tensor: torch.Tensor, generator: torch.Generator) -> None:
        if name.endswith(B):
            tensor.zero_()
        else:
            bound = tensor.shape[1] ** -0.5
            tensor.uniform_(-bound, bound, generator=generator)

    # --- folders ----------------------------------------------------------------------------------------------------

    def to_hub(self, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """A plain model's tensors: each target with s B A added, float32, made when it is asked for."""
        translate = getattr(self.inner, "to_hub", None)
        folded = self._fold(tensors)
        found: Mapping[str, torch.Tensor] = translate(folded) if translate else folded
        return found

    def from_hub(self, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """The frozen ones of the adapted module, projections quantised where the base is int8."""
        translate = getattr(self.inner, "from_hub", None)
        plain: Mapping[str, torch.Tensor] = translate(tensors) if translate else tensors
        if not self.int8:
            return plain
        makers: dict[str, Callable[[], torch.Tensor]] = {}
        for name in plain:
            target = name.removesuffix(".weight")
            if name.endswith(".weight") and target in self._quantised:
                makers[f"{target}.levels"] = lambda name=name: quantise(plain[name])[0]  # type: ignore[misc]
                makers[f"{target}.scale"] = lambda name=name: quantise(plain[name])[1]  # type: ignore[misc]
            else:
                makers[name] = lambda name=name: plain[name]  # type: ignore[misc]
        return _Made(makers)

    def _fold(self, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Canonical tensors of the adapted module as those of the inner one."""
        makers: dict[str, Callable[[], torch.Tensor]] = {}
        for name in tensors:
            target, _, last = name.rpartition(".")
            if last in (A, B) and target in self.targets:
                continue
            if last in ("weight", "levels", "scale") and (target in self.targets or target in self._quantised):
                makers[f"{target}.weight"] = lambda target=target: self._weight(tensors, target)  # type: ignore[misc]
            else:
                makers[name] = lambda name=name: tensors[name]  # type: ignore[misc]
        return _Made(makers)

    def _weight(self, tensors: Mapping[str, torch.Tensor], target: str) -> torch.Tensor:
        if target in self._quantised:
            weight = dequantise(tensors[f"{target}.levels"], tensors[f"{target}.scale"])
        else:
            weight = tensors[f"{target}.weight"].float()
        if target not in self.targets:
            return weight
        a, b = tensors[f"{target}.{A}"].float(), tensors[f"{target}.{B}"].float()
        return torch.addmm(weight, b, a, alpha=self.scale)

    # --- what is told -----------------------------------------------------------------------------------------------

    def role(self, name: str) -> TensorRole:
        target, _, last = name.rpartition(".")
        if last in (A, B) and target in self.targets:
            return TensorRole(Role.ADAPTER, self.inner.role(f"{target}.weight").layer)
        return self.inner.role(name)

    def flops(self, seq_len: int, vocab_size: int = 0) -> float:
        """Of the inner architecture without the gradients of its weights, which are a third of what grows with the
        number of weights; what grows with the length is attention, which is gone through both ways. The thin matrices
        cost 6 a weight."""
        one, two = self.inner.flops(1, vocab_size), self.inner.flops(2, vocab_size)
        thin = sum(self.rank * (wide + out) * self._share(name) for name, (wide, out) in self.targets.items())
        return self.inner.flops(seq_len, vocab_size) - (2 * one - two) / 3 + 6.0 * thin

    def _share(self, name: str) -> float:
        """Of the tokens, those that go through it: an expert sees some."""
        spec = self.inner.spec()
        routed = spec is not None and spec.experts and ".experts." in name
        return spec.experts_per_token / spec.experts if routed and spec is not None else 1.0

    def context(self) -> int:
        return self.inner.context()

    def hub_config(self, vocab_size: int) -> dict[str, Any]:
        return self.inner.hub_config(vocab_size)

    def spec(self) -> DecoderSpec | None:
        """None: no other engine could build the adapted model from a spec."""
        return None

    def weights(self) -> Path | None:
        give = getattr(self.inner, "weights", None)
        return give() if give else None


class _Made(Mapping[str, torch.Tensor]):
    """Name -> tensor, made anew each time it is asked for: no second model is ever in memory."""

    def __init__(self, makers: dict[str, Callable[[], torch.Tensor]]) -> None:
        self._makers = makers

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def __contains__(self, name: object) -> bool:
        return name in self._makers  # Mapping's own would make the tensor to see whether it is there


def _beside(scale: float) -> Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], torch.Tensor]:
    """Adds s B (A x) to what the target gives: through the activations, so that no matrix of the target's size has a
    gradient."""

    def hook(part: nn.Module, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor:
        thin = product(given[0], part.get_parameter(A))
        return out + (scale * product(thin, part.get_parameter(B))).to(out.dtype)

    return hook
