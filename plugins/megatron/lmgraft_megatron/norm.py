"""RMSNorm and LayerNorm as Megatron's layers want them: its own torch norm refuses sequence parallelism.

Under sequence parallelism a rank sees a slice of the sequence, so the weight's gradient is a part of the whole;
the mark ``sequence_parallel`` on the weights says that it must be summed over tensor-parallel ranks.
"""

from __future__ import annotations

import torch
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import nn
from torch.nn import functional

__all__ = ["Norm"]


class Norm(nn.Module):
    """RMSNorm (Zhang and Sennrich 2019, arXiv:1910.07467) or LayerNorm (Ba et al. 2016, arXiv:1607.06450) over the
    last dimension, after ``config.normalization``; computed in float32, given in the input's type."""

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        device = torch.cuda.current_device()
        self.weight = nn.Parameter(torch.empty(hidden_size, device=device, dtype=config.params_dtype))
        self.bias: nn.Parameter | None = None
        if config.normalization == "LayerNorm":
            self.bias = nn.Parameter(torch.empty(hidden_size, device=device, dtype=config.params_dtype))
        for parameter in self.parameters():
            parameter.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        weight = self.weight.to(wide.dtype)
        if self.bias is None:
            normed = functional.rms_norm(wide, weight.shape, weight, self.eps)
        else:
            normed = functional.layer_norm(wide, weight.shape, weight, self.bias.to(wide.dtype), self.eps)
        return normed.to(x.dtype)
