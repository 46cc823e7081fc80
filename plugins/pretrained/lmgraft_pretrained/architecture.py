"""The architecture part ``pretrained``: what a model folder is of, with the rows that the stage's tokenizer needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lmgraft.loading import architecture_for
from lmgraft.seams.architecture import Architecture, DecoderSpec, TensorRole
from torch import nn

from lmgraft_pretrained.plugin import PretrainedConfig
from lmgraft_pretrained.rows import Fitted

__all__ = ["Pretrained"]


class Pretrained:
    """Implements :class:`lmgraft.seams.architecture.Architecture` by the installed part that reads the folder."""

    def __init__(self, config: PretrainedConfig) -> None:
        folder = config.weights()
        assert folder is not None, "a folder that check() has read"
        self._inner: Architecture = architecture_for(folder)
        self._vocab_size: int | None = None

    def build(self, vocab_size: int, device: str = "meta") -> nn.Module:
        """The model's own module, with so many rows of vocabulary."""
        self._vocab_size = vocab_size
        return self._inner.build(vocab_size, device)

    def role(self, name: str) -> TensorRole:
        return self._inner.role(name)

    def flops(self, seq_len: int, vocab_size: int = 0) -> float:
        return self._inner.flops(seq_len, vocab_size)

    def context(self) -> int:
        return self._inner.context()

    def spec(self) -> DecoderSpec | None:
        return self._inner.spec()

    def hub_config(self, vocab_size: int) -> dict[str, Any]:
        """What the model's own architecture writes: the result loads without this part."""
        return self._inner.hub_config(vocab_size)

    def to_hub(self, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        translate = getattr(self._inner, "to_hub", None)
        return translate(tensors) if translate else tensors

    def from_hub(self, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Canonical tensors; embedding and head with as many rows as the module was built with (:mod:`.rows`)."""
        translate = getattr(self._inner, "from_hub", None)
        canonical = translate(tensors) if translate else tensors
        return canonical if self._vocab_size is None else Fitted(canonical, self.role, self._vocab_size)
