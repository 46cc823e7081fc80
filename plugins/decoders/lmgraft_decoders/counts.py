"""How many parameters a decoder has and what a token costs it: from the spec alone. Light: no torch."""

from __future__ import annotations

from lmgraft.seams.architecture import DecoderSpec

__all__ = ["active_parameters", "flops", "parameters"]


def parameters(spec: DecoderSpec, vocab_size: int) -> int:
    """All of them, a tied head once."""
    return _parameters(spec, vocab_size, spec.experts)


def active_parameters(spec: DecoderSpec, vocab_size: int) -> int:
    """Those that one token goes through: of the experts, as many as it is sent to."""
    return _parameters(spec, vocab_size, spec.experts_per_token)


def flops(spec: DecoderSpec, seq_len: int, vocab_size: int = 0) -> float:
    """6 N + 12 L H T of training a token (Chowdhery et al. 2022, arXiv:2204.02311, appendix B).

    N counts the weights of matrix products: all projections (of experts: those of as many as a token goes through),
    the router, and the head where ``vocab_size`` is given; not the embeddings (look-ups), the biases and the norms. A
    product costs 2 forward and 4 backward a weight. 12 L H T are attention's two products of H = heads * head_dim over
    T keys, whatever the number of key heads; counted without the causal half and without what a window hides, as is
    usual for utilisation figures. Softmax, rotation and activations are left out.
    """
    matrices = _attention(spec) + _router(spec) + (spec.experts_per_token if spec.experts else 1) * _mlp(spec)
    weights = spec.layers * matrices + vocab_size * spec.hidden
    return 6.0 * weights + 12.0 * spec.layers * spec.heads * spec.head_dim * seq_len


def _parameters(spec: DecoderSpec, vocab_size: int, experts: int) -> int:
    norm = {"none": 0, "rmsnorm": 1, "layernorm": 2}[spec.norm] * spec.hidden
    norms = 1 if spec.parallel_block and spec.shared_norm else 2
    mlps = _router(spec) + experts * _mlp(spec) if spec.experts else _mlp(spec) + _mlp_bias(spec)
    layer = _attention(spec) + _attention_bias(spec) + mlps + norms * norm
    tables = vocab_size * spec.hidden * (1 if spec.tied else 2)
    tables += spec.context * spec.hidden if spec.positions == "learned" else 0
    return spec.layers * layer + tables + norm * (2 if spec.embedding_norm else 1)


def _attention(spec: DecoderSpec) -> int:
    return 2 * spec.hidden * (spec.heads + spec.kv_heads) * spec.head_dim


def _attention_bias(spec: DecoderSpec) -> int:
    into = (spec.heads + 2 * spec.kv_heads) * spec.head_dim if spec.bias or spec.qkv_bias else 0
    return into + (spec.hidden if spec.bias else 0)


def _mlp(spec: DecoderSpec) -> int:
    return (3 if spec.gated else 2) * spec.hidden * spec.mlp


def _mlp_bias(spec: DecoderSpec) -> int:
    return (2 if spec.gated else 1) * spec.mlp + spec.hidden if spec.bias else 0


def _router(spec: DecoderSpec) -> int:
    return spec.hidden * spec.experts
