"""Llama's tensors: the canonical names are those of transformers, of Mistral and Qwen2 too."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from lmgraft_decoders.made import Made, same

__all__ = ["from_hub"]

#: Frequencies, which files of 2023 hold beside the weights; they follow from the settings.
FREQUENCIES = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")


def from_hub(tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """The tensors without what is no weight."""
    if not any(FREQUENCIES.fullmatch(name) for name in tensors):
        return tensors
    return Made({name: same(tensors, name) for name in tensors if not FREQUENCIES.fullmatch(name)})
