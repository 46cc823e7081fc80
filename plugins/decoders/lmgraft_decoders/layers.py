"""What blocks are made of: products with a weight, the embedding, the MLP. None is filled: weights come from an
initializer or a file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from lmgraft.seams.architecture import DecoderSpec
from lmgraft.training.products import product
from torch import nn
from torch.nn import functional

__all__ = ["ACTIVATIONS", "MLP", "Embedding", "Projection"]

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
}


class Projection(nn.Linear):
    """A product with a weight, and a bias where asked."""

    def reset_parameters(self) -> None:
        return

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = product(x, self.weight)
        # Of the product's type: under autocast a float32 bias would make all that follows float32 too.
        return out if self.bias is None else out + self.bias.to(out.dtype)


class Embedding(nn.Embedding):
    """Rows by number."""

    def reset_parameters(self) -> None:
        return


class MLP(nn.Module):
    """Two matrices around an activation; gated (Shazeer 2020, arXiv:2002.05202) with a third one beside the first."""

    def __init__(self, spec: DecoderSpec) -> None:
        super().__init__()
        bias = spec.bias and not spec.experts  # an expert has none
        self.activation = ACTIVATIONS[spec.activation]
        self.gate_proj = Projection(spec.hidden, spec.mlp, bias=bias) if spec.gated else None
        self.up_proj = Projection(spec.hidden, spec.mlp, bias=bias)
        self.down_proj = Projection(spec.mlp, spec.hidden, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.gate_proj is None:
            return self.down_proj(self.activation(self.up_proj(x)))
        return self.down_proj(self.activation(self.gate_proj(x)) * self.up_proj(x))
