"""The architecture part ``llama`` (Touvron et al. 2023, arXiv:2302.13971; grouped-query attention of Llama 2,
arXiv:2307.09288)."""

from __future__ import annotations

import re
from typing import Any

import torch
from lmgraft.seams.architecture import DecoderSpec, Role, TensorRole
from torch import nn

from lmgraft_decoders import hub
from lmgraft_decoders.model import LlamaModule
from lmgraft_decoders.plugin import LlamaConfig

__all__ = ["Llama"]

LAYER = re.compile(r"model\.layers\.(\d+)\.(\w+)\.?(\w*)\.weight")
IN_LAYER = {
    "q_proj": Role.QUERY,
    "k_proj": Role.KEY,
    "v_proj": Role.VALUE,
    "o_proj": Role.ATTENTION_OUT,
    "gate_proj": Role.MLP_GATE,
    "up_proj": Role.MLP_IN,
    "down_proj": Role.MLP_OUT,
    "input_layernorm": Role.NORM,
    "post_attention_layernorm": Role.NORM,
}
OUTSIDE = {
    "model.embed_tokens.weight": Role.EMBEDDING,
    "model.norm.weight": Role.NORM,
    "lm_head.weight": Role.HEAD,
}


class Llama:
    """Implements :class:`lmgraft.seams.architecture.Architecture`."""

    def __init__(self, config: LlamaConfig) -> None:
        self.config = config

    def build(self, vocab_size: int, device: str = "meta") -> nn.Module:
        """Parameters are allocated and not filled (on ``meta``: not even allocated)."""
        with torch.device(device):
            return LlamaModule(self.config, vocab_size)

    def role(self, name: str) -> TensorRole:
        if name in OUTSIDE:
            return TensorRole(OUTSIDE[name])
        found = LAYER.fullmatch(name)
        if found is None:
            return TensorRole(Role.OTHER)
        return TensorRole(IN_LAYER.get(found[3] or found[2], Role.OTHER), int(found[1]))

    def flops(self, seq_len: int, vocab_size: int = 0) -> float:
        """6 N + 12 L H T a token (Chowdhery et al. 2022, arXiv:2204.02311, appendix B).

        N counts the weights of matrix products: all projections, and the head where ``vocab_size`` is given; not
        the embedding (a look-up) and not the norms. A product costs 2 forward and 4 backward a weight. 12 L H T are
        attention's two products over T keys, counted without the causal half, as is usual for utilisation figures;
        softmax, rotation and activations are left out.
        """
        config = self.config
        kv = config.hidden // config.heads * config.kv_heads
        attention = 2 * config.hidden * config.hidden + 2 * config.hidden * kv
        weights = config.layers * (attention + 3 * config.hidden * config.mlp) + vocab_size * config.hidden
        return 6.0 * weights + 12.0 * config.layers * config.hidden * seq_len

    def context(self) -> int:
        return self.config.context

    def hub_config(self, vocab_size: int) -> dict[str, Any]:
        """With ``norm: none`` the file carries ``lmgraft_norm``: transformers loads such weights into a model whose
        norms are 1, which is another model."""
        return hub.write(self.config, vocab_size)

    def spec(self) -> DecoderSpec:
        return self.config.spec()
