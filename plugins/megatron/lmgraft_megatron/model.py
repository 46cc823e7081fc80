"""A decoder of Megatron's own layers, built from an architecture's :class:`DecoderSpec`."""

from __future__ import annotations

import copy
import warnings
from functools import partial
from typing import Any

import torch
from lmgraft.seams.architecture import DecoderSpec
from lmgraft.training.rotary import inverse_frequencies
from torch.nn import functional

from lmgraft_megatron.layout import Layout

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # on what is not installed: Apex, Transformer Engine
    from megatron.core.models.common.embeddings.rotary_pos_embedding import RotaryEmbedding
    from megatron.core.models.gpt.gpt_layer_specs import (
        get_gpt_layer_local_spec,
        get_gpt_layer_with_transformer_engine_spec,
    )
    from megatron.core.models.gpt.gpt_model import GPTModel
    from megatron.core.packed_seq_params import PackedSeqParams
    from megatron.core.transformer.identity_op import IdentityOp
    from megatron.core.transformer.spec_utils import ModuleSpec
    from megatron.core.transformer.transformer_block import TransformerBlockSubmodules
    from megatron.core.transformer.transformer_config import TransformerConfig

from lmgraft_megatron.batches import Fed
from lmgraft_megatron.norm import Norm
from lmgraft_megatron.parallel_block import ParallelLayer

__all__ = ["Decoder", "build", "padded"]

ACTIVATIONS = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
}
NORMS = {"rmsnorm": "RMSNorm", "layernorm": "LayerNorm", "none": "LayerNorm"}
POSITIONS = {"rope": "rope", "learned": "learned_absolute", "none": "none"}


class Turns(RotaryEmbedding):  # type: ignore[misc]
    """Rotary angles of the positions of the microbatch at hand: documents of a packed row each begin at 0."""

    positions: torch.Tensor | None = None
    """(B, T)."""

    def forward(self, max_seq_len: int, *_: Any, **__: Any) -> torch.Tensor:
        """(T, B, 1, width): the two halves of a head turn by the same angles, as in transformers."""
        assert self.positions is not None, "positions come before the forward pass"
        angles = self.positions.T.float()[..., None] * self.inv_freq.to(self.positions.device)
        return torch.cat((angles, angles), -1)[:, :, None, :]


class Decoder(GPTModel):  # type: ignore[misc]
    """GPTModel whose last stage gives hidden states: logits of all positions are never held at once."""

    def __init__(self, spec: DecoderSpec, **settings: Any) -> None:
        super().__init__(**settings)
        if spec.positions == "rope":
            self.rotary_pos_emb = Turns(spec.head_dim, 1.0, rotary_base=spec.rope_theta, use_cpu_initialization=True)
            self.rotary_pos_emb.inv_freq = inverse_frequencies(spec)
        if spec.positions == "learned" and self.pre_process:
            # Megatron makes this table in float32 whatever the others are, and leaves it to a wrapper to change it.
            self.embedding.position_embeddings.to(self.config.params_dtype)

    def _postprocess(self, hidden_states: torch.Tensor, **_: Any) -> torch.Tensor:
        return hidden_states

    def head(self) -> torch.Tensor:
        """(rows of this rank, hidden): the output matrix; last stage only."""
        weight: torch.Tensor
        if self.share_embeddings_and_output_weights:
            weight = self.shared_embedding_or_output_weight()
        else:
            weight = self.output_layer.weight
        return weight

    def ask(self, fed: Fed) -> torch.Tensor:
        """Hidden states as the layers have them (see :meth:`Fed.rows`); under sequence parallelism this rank's slice;
        before the last stage those that go on to the next one."""
        if isinstance(getattr(self, "rotary_pos_emb", None), Turns):
            self.rotary_pos_emb.positions = fed.positions
        packed = None
        if fed.mask is None:
            ends = {"cu_seqlens_q": fed.ends, "cu_seqlens_kv": fed.ends}
            packed = PackedSeqParams("thd", **ends, max_seqlen_q=fed.longest, max_seqlen_kv=fed.longest)
        hidden: torch.Tensor = self(fed.tokens, fed.positions, fed.mask, packed_seq_params=packed)
        return hidden


def padded(vocab_size: int, tensor: int) -> int:
    """Every tensor-parallel rank holds as many rows of the vocabulary."""
    return -(-vocab_size // tensor) * tensor


def build(spec: DecoderSpec, vocab_size: int, precision: str, layout: Layout, engine: bool) -> Decoder:
    """This rank's part of the model, allocated and not filled. ``engine``: of Transformer Engine's layers."""
    config = _config(spec, precision, layout)
    layer = _layer(spec, config, engine)
    block = TransformerBlockSubmodules(
        layer_specs=[layer] * (spec.layers // layout.pipeline), layer_norm=None if spec.norm == "none" else Norm
    )
    return Decoder(
        spec,
        config=config,
        transformer_layer_spec=block,
        vocab_size=padded(vocab_size, layout.tensor),
        max_sequence_length=spec.context,
        pre_process=layout.first,
        post_process=layout.last,
        share_embeddings_and_output_weights=spec.tied,
        position_embedding_type=POSITIONS[spec.positions],
        rotary_base=spec.rope_theta,
        pg_collection=layout.groups,
    )


def _config(spec: DecoderSpec, precision: str, layout: Layout) -> Any:
    half = precision == "bfloat16"
    kind = torch.bfloat16 if half else torch.float32
    cpu = layout.device.type == "cpu"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return TransformerConfig(
            num_layers=spec.layers,
            hidden_size=spec.hidden,
            num_attention_heads=spec.heads,
            num_query_groups=spec.kv_heads,
            kv_channels=spec.head_dim,
            ffn_hidden_size=spec.mlp,
            normalization=NORMS[spec.norm],
            layernorm_epsilon=spec.norm_eps,
            activation_func=ACTIVATIONS[spec.activation],
            gated_linear_unit=spec.gated,
            add_bias_linear=spec.bias,
            add_qkv_bias=spec.qkv_bias,
            hidden_dropout=0.0,
            attention_dropout=0.0,
            attention_softmax_in_fp32=True,
            bf16=half,
            params_dtype=kind,
            pipeline_dtype=kind,
            tensor_model_parallel_size=layout.tensor,
            pipeline_model_parallel_size=layout.pipeline,
            sequence_parallel=layout.sequence_parallel,
            # Sequences of a batch differ in length; Megatron asks for this dispatcher then, of dense models too.
            variable_seq_lengths=True,
            moe_token_dispatcher_type="alltoall",
            # The loss comes as a sum that is divided already; nothing is to be divided again.
            calculate_per_token_loss=True,
            # Weights are loaded or drawn name by name.
            perform_initialization=False,
            use_cpu_initialization=cpu,
            # Fused kernels are CUDA's own.
            bias_activation_fusion=False,
            bias_dropout_fusion=False,
            masked_softmax_fusion=False,
            persist_layer_norm=False,
            apply_rope_fusion=False,
            gradient_accumulation_fusion=False,
        )


def _layer(spec: DecoderSpec, config: Any, engine: bool) -> ModuleSpec:
    norm: Any = IdentityOp if spec.norm == "none" else Norm
    # Specs are shared between calls in some versions: a copy is ours to change.
    if engine:
        layer = copy.deepcopy(get_gpt_layer_with_transformer_engine_spec())
        if spec.norm != "none" and not spec.parallel_block:
            return layer
        # Its projections bring the norm before them along; these are without.
        from megatron.core.extensions.transformer_engine import TEColumnParallelLinear

        layer.submodules.self_attention.submodules.linear_qkv = TEColumnParallelLinear
        layer.submodules.mlp.submodules.linear_fc1 = TEColumnParallelLinear
    else:
        layer = copy.deepcopy(get_gpt_layer_local_spec(normalization=config.normalization))
    layer.submodules.input_layernorm = norm
    layer.submodules.pre_mlp_layernorm = norm
    if spec.parallel_block:
        layer.module = ParallelLayer
        if spec.shared_norm:
            layer.submodules.pre_mlp_layernorm = IdentityOp
    return layer
