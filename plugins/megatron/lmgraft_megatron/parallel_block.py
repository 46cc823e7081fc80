"""A layer whose attention and MLP stand side by side (Wang and Komatsuzaki 2021's GPT-J; Almazrouei et al. 2023's
Falcon, arXiv:2311.16867). megatron-core has the one after the other only."""

from __future__ import annotations

from typing import Any

import torch
from megatron.core.transformer.identity_op import IdentityOp
from megatron.core.transformer.transformer_layer import TransformerLayer
from megatron.core.utils import make_viewless_tensor

__all__ = ["ParallelLayer"]


class ParallelLayer(TransformerLayer):  # type: ignore[misc]
    """The parts of Megatron's layer, both reading the stream as it comes: through one norm, or each through its own
    where ``pre_mlp_layernorm`` is one. They are added to the stream together.

    Recomputation, offloading and inference kernels, which this framework does not switch on, are left out.
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        context: torch.Tensor | None = None,
        rotary_pos_emb: torch.Tensor | None = None,
        packed_seq_params: Any = None,
        **_: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(T, B, hidden), or this rank's slice of it along T under sequence parallelism."""
        normed = self.input_layernorm(hidden_states)
        beside = normed
        if not isinstance(self.pre_mlp_layernorm, IdentityOp):
            beside = self.pre_mlp_layernorm(hidden_states)
        parts = (
            *self.self_attention(
                normed,
                attention_mask=attention_mask,
                rotary_pos_emb=rotary_pos_emb,
                packed_seq_params=packed_seq_params,
            ),
            *self.mlp(beside),
        )
        added = None
        for part in parts:  # both outputs and, where the model has them, both biases
            if part is not None:
                added = part if added is None else added + part
        out = hidden_states + added
        return make_viewless_tensor(inp=out, requires_grad=out.requires_grad, keep_graph=True), context
