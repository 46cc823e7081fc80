"""Tensors that are made when they are asked for: what all translations of names and layouts give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch

__all__ = ["Made", "Maker", "same"]

Maker = Callable[[], torch.Tensor]


class Made(Mapping[str, torch.Tensor]):
    """Name -> tensor, made anew each time it is asked for: nothing is kept."""

    def __init__(self, makers: dict[str, Maker]) -> None:
        self._makers = makers

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def __contains__(self, name: object) -> bool:
        return name in self._makers  # Mapping's own would make the tensor to see whether it is there


def same(tensors: Mapping[str, torch.Tensor], name: str) -> Maker:
    """The tensor as it is."""
    return lambda: tensors[name]
