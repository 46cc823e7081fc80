"""The architecture part ``lstm`` (Hochreiter and Schmidhuber 1997; as a language model Zaremba et al. 2014,
arXiv:1409.2329, without its dropout)."""

from __future__ import annotations

import re
from typing import Any

import torch
from lmgraft.seams.architecture import Role, TensorRole
from torch import nn

from lmgraft_lstm.model import LstmModule
from lmgraft_lstm.plugin import KEYS, MODEL_TYPE, LstmConfig

__all__ = ["Lstm"]

LAYER = re.compile(r"layers\.(\d+)\.(?:input|forget|cell|output)_gate\.(input_weight|state_weight|bias)")


class Lstm:
    """Implements :class:`lmgraft.seams.architecture.Architecture`."""

    def __init__(self, config: LstmConfig) -> None:
        self.config = config

    def build(self, vocab_size: int, device: str = "meta") -> nn.Module:
        """Parameters are allocated and not filled (on ``meta``: not even allocated)."""
        one = self.config
        with torch.device(device):
            return LstmModule(vocab_size, one.hidden, one.layers, one.tied, one.forget_bias)

    def role(self, name: str) -> TensorRole:
        """The gates' matrices have no role of their own."""
        if name == "embed_tokens.weight":
            return TensorRole(Role.EMBEDDING)
        if name == "lm_head.weight":
            return TensorRole(Role.HEAD)
        found = LAYER.fullmatch(name)
        if found is None:
            return TensorRole(Role.OTHER)
        return TensorRole(Role.BIAS if found[2] == "bias" else Role.OTHER, int(found[1]))

    def flops(self, seq_len: int, vocab_size: int = 0) -> float:
        """6 N a token, N the weights of matrix products: eight matrices a layer, and the head where ``vocab_size`` is
        given. A token costs the same at each length."""
        return 6.0 * (8 * self.config.layers * self.config.hidden**2 + vocab_size * self.config.hidden)

    def context(self) -> int:
        return self.config.context

    def hub_config(self, vocab_size: int) -> dict[str, Any]:
        """Of a ``model_type`` of its own: transformers has no such model."""
        own = {key: getattr(self.config, name) for name, key in KEYS.items()}
        return {"model_type": MODEL_TYPE, "architectures": ["LmgraftLstm"], "vocab_size": vocab_size, **own}

    def spec(self) -> None:
        """No standard decoder."""
        return
