"""The architecture parts: ``llama`` (Touvron et al. 2023, arXiv:2302.13971; Mistral, arXiv:2310.06825; Qwen2,
arXiv:2407.10671), ``gpt2`` (Radford et al. 2019, and its code; Brown et al. 2020, arXiv:2005.14165), ``falcon``
(Almazrouei et al. 2023, arXiv:2311.16867), ``bloom`` (Le Scao et al. 2022, arXiv:2211.05100) and ``mixtral`` (Jiang et
al. 2024, arXiv:2401.04088).

A family is a :class:`~lmgraft.seams.architecture.DecoderSpec`, from which one module is built, and transformers' names
for its tensors and settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from lmgraft.seams.architecture import DecoderSpec, Role, TensorRole
from torch import nn

from lmgraft_decoders import (
    counts,
    fused_names,
    gpt2_names,
    hub_bloom,
    hub_falcon,
    hub_gpt2,
    hub_llama,
    hub_mixtral,
    llama_names,
    mixtral_names,
)
from lmgraft_decoders.config_bloom import BloomConfig
from lmgraft_decoders.config_falcon import FalconConfig
from lmgraft_decoders.config_gpt2 import Gpt2Config
from lmgraft_decoders.config_llama import LlamaConfig
from lmgraft_decoders.config_mixtral import MixtralConfig
from lmgraft_decoders.model import DecoderModule

__all__ = ["Bloom", "Falcon", "Gpt2", "Llama", "Mixtral"]

Tensors = Mapping[str, torch.Tensor]

LAYER = re.compile(r"model\.layers\.(\d+)\.((?:\w+\.)*?)(\w+)\.(weight|bias)")
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
    "model.embed_norm.weight": Role.NORM,
    "model.embed_norm.bias": Role.BIAS,
    "model.norm.weight": Role.NORM,
    "model.norm.bias": Role.BIAS,
    "lm_head.weight": Role.HEAD,
}


class _Settings(Protocol):
    def spec(self) -> DecoderSpec: ...


class _Decoder:
    """What follows from the settings' :class:`~lmgraft.seams.architecture.DecoderSpec` alone."""

    def __init__(self, config: _Settings) -> None:
        self._spec = config.spec()

    def build(self, vocab_size: int, device: str = "meta") -> nn.Module:
        """Parameters are allocated and not filled (on ``meta``: not even allocated)."""
        with torch.device(device):
            return DecoderModule(self._spec, vocab_size)

    def role(self, name: str) -> TensorRole:
        """A router is :attr:`~lmgraft.seams.architecture.Role.OTHER`, in its layer."""
        if name in OUTSIDE:
            return TensorRole(OUTSIDE[name])
        found = LAYER.fullmatch(name)
        if found is None:
            return TensorRole(Role.OTHER)
        role = IN_LAYER.get(found[3], Role.OTHER)
        return TensorRole(Role.BIAS if found[4] == "bias" and role is not Role.OTHER else role, int(found[1]))

    def flops(self, seq_len: int, vocab_size: int = 0) -> float:
        """See :func:`lmgraft_decoders.counts.flops`."""
        return counts.flops(self._spec, seq_len, vocab_size)

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
        return hub_llama.write(self.config, vocab_size)

    def to_hub(self, tensors: Tensors) -> Tensors:
        """The canonical names are those of ``LlamaForCausalLM``, and of Mistral's and Qwen2's class."""
        return tensors

    def from_hub(self, tensors: Tensors) -> Tensors:
        """Without the frequencies that old files hold."""
        return llama_names.from_hub(tensors)


class Gpt2(_Decoder):
    """Implements :class:`lmgraft.seams.architecture.Architecture`."""

    def __init__(self, config: Gpt2Config) -> None:
        super().__init__(config)
        self.config = config

    def hub_config(self, vocab_size: int) -> dict[str, Any]:
        """With ``norm: none`` the file carries ``lmgraft_norm``, as llama's does."""
        return hub_gpt2.write(self.config, vocab_size)

    def to_hub(self, tensors: Tensors) -> Tensors:
        """The tensors of ``GPT2LMHeadModel``, each made when it is asked for."""
        return gpt2_names.to_hub(tensors)

    def from_hub(self, tensors: Tensors) -> Tensors:
        """The way back; names without ``transformer.`` (OpenAI's own upload) are taken too."""
        return gpt2_names.from_hub(tensors)


class Falcon(_Decoder):
    """Implements :class:`lmgraft.seams.architecture.Architecture`."""

    def __init__(self, config: FalconConfig) -> None:
        super().__init__(config)
        self.config = config

    def hub_config(self, vocab_size: int) -> dict[str, Any]:
        """With ``norm: none`` the file carries ``lmgraft_norm``, as llama's does."""
        return hub_falcon.write(self.config, vocab_size)

    def to_hub(self, tensors: Tensors) -> Tensors:
        """The tensors of ``FalconForCausalLM``, each made when it is asked for."""
        return fused_names.to_hub(tensors, self._spec)

    def from_hub(self, tensors: Tensors) -> Tensors:
        """The way back; names without ``transformer.`` are taken too."""
        return fused_names.from_hub(tensors, self._spec)


class Bloom(_Decoder):
    """Implements :class:`lmgraft.seams.architecture.Architecture`."""

    def __init__(self, config: BloomConfig) -> None:
        super().__init__(config)
        self.config = config

    def hub_config(self, vocab_size: int) -> dict[str, Any]:
        """With ``norm: none`` the file carries ``lmgraft_norm``, as llama's does."""
        return hub_bloom.write(self.config, vocab_size)

    def to_hub(self, tensors: Tensors) -> Tensors:
        """The tensors of ``BloomForCausalLM``, each made when it is asked for."""
        return fused_names.to_hub(tensors, self._spec)

    def from_hub(self, tensors: Tensors) -> Tensors:
        """The way back; names without ``transformer.`` (BigScience's own upload) are taken too."""
        return fused_names.from_hub(tensors, self._spec)


class Mixtral(_Decoder):
    """Implements :class:`lmgraft.seams.architecture.Architecture`."""

    def __init__(self, config: MixtralConfig) -> None:
        super().__init__(config)
        self.config = config

    def hub_config(self, vocab_size: int) -> dict[str, Any]:
        """With ``norm: none`` the file carries ``lmgraft_norm``, as llama's does."""
        return hub_mixtral.write(self.config, vocab_size)

    def to_hub(self, tensors: Tensors) -> Tensors:
        """The tensors of ``MixtralForCausalLM`` as its published files have them, each made when it is asked for."""
        return mixtral_names.to_hub(tensors)

    def from_hub(self, tensors: Tensors) -> Tensors:
        """The way back, from the experts' matrices apart or in one."""
        return mixtral_names.from_hub(tensors, self._spec.experts)
