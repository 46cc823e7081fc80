"""Rows of a vocabulary that does not end where the tokenizer does.

A published model may hold more rows than its tokenizer has tokens (padded to a round number for the processor: 151,936
rows for Qwen-2's 151,646 tokens) or lack one that was appended for padding (LLaMA, GPT-2). Rows beyond the tokenizer
are left out, since no text holds their ids; missing ones begin as the mean of all others, which is neither likely nor
unlikely (Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language Models").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from lmgraft.seams.architecture import Role, TensorRole

__all__ = ["Fitted"]

TABLES = (Role.EMBEDDING, Role.HEAD)


class Fitted(Mapping[str, torch.Tensor]):
    """Canonical tensors by name, each made when it is asked for; tables have ``vocab_size`` rows."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], role: Callable[[str], TensorRole], vocab_size: int) -> None:
        self._tensors = tensors
        self._role = role
        self._vocab_size = vocab_size

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor = self._tensors[name]
        if self._role(name).role not in TABLES or len(tensor) == self._vocab_size:
            return tensor
        if len(tensor) > self._vocab_size:
            return tensor[: self._vocab_size].clone()
        mean = tensor.float().mean(0, keepdim=True).to(tensor.dtype)
        return torch.cat((tensor, mean.expand(self._vocab_size - len(tensor), -1)))

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors  # Mapping's own would make the tensor to see whether it is there
