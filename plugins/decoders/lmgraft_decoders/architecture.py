"""The architecture parts ``llama`` (Touvron et al. 2023, arXiv:2302.13971; grouped-query attention of Llama 2,
arXiv:2307.09288) and ``gpt2`` (Radford et al. 2019, and its code)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from lmgraft.seams.architecture import DecoderSpec, Role, TensorRole
from torch import nn

from lmgraft_decoders import gpt2_names, hub, hub_gpt2
from lmgraft_decoders.model import DecoderModule
from lmgraft_decoders.plugin import Gpt2Config, LlamaConfig

__all__ = ["Gpt2", "Llama"]

LAYER = re.compile(r"model\.layers\.(\d+)\.(\w+)\.?(\w*)\.(weight|bias)")
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
    "model.embed_positions.weight": Role.POSITION,
    "model.norm.weight": Role.NORM,
    "model.norm.bias": Role.BIAS,
    "lm_head.weight": Role.HEAD,
}


class _Decoder:
    """What follows from the settings' :class:`~lmgraft.seams.architecture.DecoderSpec` alone."""

    def __init__(self, config: LlamaConfig | Gpt2Config) -> None:
        self._spec = config.spec()

    def build(self, vocab_size: int, device: str = "meta") -> nn.Module:
        """Parameters are allocated and not filled (on ``meta``: not even allocated)."""
        with torch.device(device):
            return DecoderModule(self._spec, vocab_size)

    def role(self, name: str) -> TensorRole:
        if name in OUTSIDE:
            return TensorRole(OUTSIDE[name])
        found = LAYER.fullmatch(name)
        if found is None:
            return TensorRole(Role.OTHER)
        role = IN_LAYER.get(found[3] or found[2], Role.OTHER)
        return TensorRole(Role.BIAS if found[4] == "bias" and role is not Role.OTHER else role, int(found[1]))

    def flops(self, seq_len: int, vocab_size: int = 0) -> float:
        """6 N + 12 L H T a token (Chowdhery et al. 2022, arXiv:2204.02311, appendix B).

        N counts the weights of matrix products: all projections, and the head where ``vocab_size`` is given; not
        the embeddings (look-ups), the biases and the norms. A product costs 2 forward and 4 backward a weight.
        12 L H T are attention's two products over T keys, counted without the causal half, as is usual for
        utilisation figures; softmax, rotation and activations are left out.
        """
        spec = self._spec
        width, kv = spec.head_dim * spec.heads, spec.head_dim * spec.kv_heads
        matrices = 2 * spec.hidden * (width + kv) + (3 if spec.gated else 2) * spec.hidden * spec.mlp
        return 6.0 * (spec.layers * matrices + vocab_size * spec.hidden) + 12.0 * spec.layers * width * seq_len

    def context(self) -> int:
        return self._spec.context

    def spec(self) -> DecoderSpec:
        return self._spec


class Llama(_Decoder):
    """Implements :class:`lmgraft.seams.architecture.Architecture`."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.config = config

    def hub_config(self, vocab_size: int) -> dict[str, Any]:
        """With ``norm: none`` the file carries ``lmgraft_norm``: transformers loads such weights into a model whose
        norms are 1, which is another model."""
        return hub.write(self.config, vocab_size)

    def to_hub(self, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """The canonical names are those of ``LlamaForCausalLM``."""
        return tensors

    def from_hub(self, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        return tensors


class Gpt2(_Decoder):
    """Implements :class:`lmgraft.seams.architecture.Architecture`."""

    def __init__(self, config: Gpt2Config) -> None:
        super().__init__(config)
        self.config = config

    def hub_config(self, vocab_size: int) -> dict[str, Any]:
        """With ``norm: none`` the file carries ``lmgraft_norm``, as llama's does."""
        return hub_gpt2.write(self.config, vocab_size)

    def to_hub(self, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """The tensors of ``GPT2LMHeadModel``, each made when it is asked for."""
        return gpt2_names.to_hub(tensors)

    def from_hub(self, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """The way back; names without ``transformer.`` (OpenAI's own upload) are taken too."""
        return gpt2_names.from_hub(tensors)
