"""What adapted architectures have in common (:mod:`lmgraft.seams.adapter`): the way to a folder, and what they tell.

An adapter that adds parameters and hooks to the modules of an architecture derives from :class:`AdaptedArchitecture`
and writes four methods: ``put``, ``adds``, ``fold`` and ``fill_new``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from lmgraft.seams.architecture import Architecture, DecoderSpec, Role, TensorRole
from lmgraft.training import weights

__all__ = ["AdaptedArchitecture", "Made"]


class Made(Mapping[str, torch.Tensor]):
    """Name -> tensor, made anew each time it is asked for: no second model is ever in memory."""

    def __init__(self, makers: Mapping[str, Callable[[], torch.Tensor]]) -> None:
        self._makers = makers

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def __contains__(self, name: object) -> bool:
        return name in self._makers  # Mapping's own would make the tensor to see whether it is there


class AdaptedArchitecture(ABC):
    """Implements :class:`lmgraft.seams.adapter.Adapted` around an architecture, but for what a subclass writes."""

    def __init__(self, inner: Architecture) -> None:
        self.inner = inner

    # --- what a subclass writes -------------------------------------------------------------------------------------

    @abstractmethod
    def put(self, module: nn.Module, device: str) -> None:
        """Puts the adapter into a module that the inner architecture has built: parameters on ``device``, not filled,
        and what lets them act, such as forward hooks."""

    @abstractmethod
    def adds(self, name: str) -> str | None:
        """For a parameter of the adapter the name of the parameter that it adapts; None for any other."""

    @abstractmethod
    def fold(self, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """The adapted module's canonical tensors as the inner module's, float32, with the same answers. :class:`Made`
        makes them one at a time."""

    @abstractmethod
    def fill_new(self, name: str, tensor: torch.Tensor, generator: torch.Generator) -> None:
        """See :meth:`lmgraft.seams.adapter.Adapted.fill_new`."""

    def hold(self, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """The inner module's canonical tensors as the frozen ones of the adapted module; works on ``meta`` too. As
        they are, unless a subclass holds them in another way."""
        return tensors

    # --- the module -------------------------------------------------------------------------------------------------

    def build(self, vocab_size: int, device: str = "meta") -> nn.Module:
        """The inner module with the adapter in it. Its ``generation()`` gives a plain module, folded: one that the
        inner module brings would read weights without what was put beside them."""
        module = self.inner.build(vocab_size, device)
        self.put(module, device)
        module.generation = lambda: self._plain(module, vocab_size)  # type: ignore[assignment]
        return module

    def _plain(self, module: nn.Module, vocab_size: int) -> nn.Module:
        plain = weights.materialise(self.inner, vocab_size, str(next(module.parameters()).device))
        folded = self.fold(weights.canonical(module))
        with torch.no_grad():
            for name, tensor in weights.canonical(plain).items():
                tensor.copy_(folded[name])
        plain.train(module.training)
        made: Callable[[], nn.Module] | None = getattr(plain, "generation", None)
        return plain if made is None else made()

    # --- folders ----------------------------------------------------------------------------------------------------

    def to_hub(self, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """A plain model's tensors, the adapter folded in."""
        return self._inner("to_hub", self.fold(tensors))

    def from_hub(self, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """The frozen tensors of a plain model."""
        return self.hold(self._inner("from_hub", tensors))

    def _inner(self, way: str, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        translate = getattr(self.inner, way, None)
        found: Mapping[str, torch.Tensor] = translate(tensors) if translate else tensors
        return found

    def hub_config(self, vocab_size: int) -> dict[str, Any]:
        """The inner architecture's: what comes out is a model of its class."""
        return self.inner.hub_config(vocab_size)

    # --- what is told -----------------------------------------------------------------------------------------------

    def role(self, name: str) -> TensorRole:
        """``Role.ADAPTER`` for what ``adds`` knows, in the layer of what it adapts."""
        adapted = self.adds(name)
        return self.inner.role(name) if adapted is None else TensorRole(Role.ADAPTER, self.inner.role(adapted).layer)

    def flops(self, seq_len: int, vocab_size: int = 0) -> float:
        """Of the inner architecture without the gradients of its weights, which are a third of what does not grow with
        the length; attention is gone through both ways. The adapter costs 6 a weight, for the tokens that see it."""
        one, two = self.inner.flops(1, vocab_size), self.inner.flops(2, vocab_size)
        named = self.build(2, "meta").named_parameters()
        own = sum(self._share(name) * parameter.numel() for name, parameter in named if self.adds(name) is not None)
        return self.inner.flops(seq_len, vocab_size) - (2 * one - two) / 3 + 6.0 * own

    def _share(self, name: str) -> float:
        """Of the tokens, those that go through it: an expert of a standard decoder sees some."""
        spec = self.inner.spec()
        return spec.experts_per_token / spec.experts if spec and spec.experts and ".experts." in name else 1.0

    def context(self) -> int:
        """The inner architecture's."""
        return self.inner.context()

    def spec(self) -> DecoderSpec | None:
        """None: no other engine could build the adapted model from a spec."""
        return None
