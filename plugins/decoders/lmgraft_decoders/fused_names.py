"""The tensors of Falcon and BLOOM under transformers' names and under the canonical ones.

Both keep q, k and v of a layer in one ``query_key_value``: for each key head the rows of the query heads that it
serves, then its own, then its value's. So multi-query attention is [all q | k | v] (Falcon-7B), grouped-query attention
has such a block a group (Falcon-40B), and one key head for each query head makes them alternate (BLOOM, Falcon-RW).
Both ways only cut and join, so not one bit changes. A tensor is made when it is asked for; names that are of neither
family go through as they are, so that whoever compares names sees them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from lmgraft.seams.architecture import DecoderSpec

from lmgraft_decoders.made import Made, Maker, same

__all__ = ["from_hub", "to_hub"]

OUTSIDE = {
    "model.embed_tokens": "transformer.word_embeddings",
    "model.embed_norm": "transformer.word_embeddings_layernorm",
    "model.norm": "transformer.ln_f",
}
#: Canonical part of a layer -> transformers' part.
IN_LAYER = {
    "self_attn.o_proj": "self_attention.dense",
    "mlp.up_proj": "mlp.dense_h_to_4h",
    "mlp.down_proj": "mlp.dense_4h_to_h",
}
#: Falcon's two norms in parallel have names of their own.
TWO_NORMS = {"input_layernorm": "ln_attn", "post_attention_layernorm": "ln_mlp"}
FUSED, PARTS = "self_attention.query_key_value", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")

CANONICAL_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)")
HUB_LAYER = re.compile(r"transformer\.h\.(\d+)\.(.+)\.(weight|bias)")
#: The first names of files that were saved without the head, BLOOM's own upload among them.
BARE = re.compile(r"(h\.\d+|word_embeddings|word_embeddings_layernorm|ln_f)\.")
#: Frequencies, which old files hold beside the weights.
FREQUENCIES = re.compile(r"transformer\.h\.\d+\.self_attention\.(rotary|maybe_rotary|rotary_emb)\.inv_freq")


def to_hub(tensors: Mapping[str, torch.Tensor], spec: DecoderSpec) -> Mapping[str, torch.Tensor]:
    """Canonical tensors as those of ``FalconForCausalLM`` and ``BloomForCausalLM``. Raises KeyError where one of q, k
    and v lacks."""
    inside = IN_LAYER | _norms(spec)
    makers: dict[str, Maker] = {}
    for name in tensors:
        found = CANONICAL_LAYER.fullmatch(name)
        part = found[2] if found else ""
        if found and part in PARTS:
            names = [f"model.layers.{found[1]}.{each}.{found[3]}" for each in PARTS]
            makers[f"transformer.h.{found[1]}.{FUSED}.{found[3]}"] = _joined(tensors, names, spec)
        elif found and part in inside:
            makers[f"transformer.h.{found[1]}.{inside[part]}.{found[3]}"] = same(tensors, name)
        else:
            makers[_outside(name, OUTSIDE)] = same(tensors, name)
    return Made(makers)


def from_hub(tensors: Mapping[str, torch.Tensor], spec: DecoderSpec) -> Mapping[str, torch.Tensor]:
    """The canonical tensors of a Falcon or BLOOM as transformers stores it."""
    back = {theirs: own for own, theirs in (IN_LAYER | _norms(spec)).items()}
    outside = {theirs: own for own, theirs in OUTSIDE.items()}
    makers: dict[str, Maker] = {}
    for stored in tensors:
        name = f"transformer.{stored}" if BARE.match(stored) else stored
        if FREQUENCIES.fullmatch(name):
            continue
        found = HUB_LAYER.fullmatch(name)
        if found and found[2] == FUSED:
            for index, part in enumerate(PARTS):
                makers[f"model.layers.{found[1]}.{part}.{found[3]}"] = _cut(tensors, stored, spec, index)
        elif found and found[2] in back:
            makers[f"model.layers.{found[1]}.{back[found[2]]}.{found[3]}"] = same(tensors, stored)
        else:
            makers[_outside(name, outside)] = same(tensors, stored)
    return Made(makers)


def _norms(spec: DecoderSpec) -> dict[str, str]:
    return TWO_NORMS if spec.parallel_block and not spec.shared_norm else {name: name for name in TWO_NORMS}


def _outside(name: str, known: Mapping[str, str]) -> str:
    owner, _, kind = name.rpartition(".")
    return f"{known[owner]}.{kind}" if owner in known else name


def _joined(tensors: Mapping[str, torch.Tensor], names: list[str], spec: DecoderSpec) -> Maker:
    def make() -> torch.Tensor:
        groups = [tensors[name].unflatten(0, (spec.kv_heads, -1, spec.head_dim)) for name in names]
        return torch.cat(groups, 1).flatten(0, 2)

    return make


def _cut(tensors: Mapping[str, torch.Tensor], name: str, spec: DecoderSpec, index: int) -> Maker:
    def make() -> torch.Tensor:
        fused, each = tensors[name], spec.heads // spec.kv_heads
        if fused.dim() == 0 or len(fused) != spec.kv_heads * (each + 2) * spec.head_dim:
            # Of another size: whatever is given is told by its shape.
            return torch.tensor_split(fused, 3)[index] if fused.dim() else fused
        groups = fused.unflatten(0, (spec.kv_heads, each + 2, spec.head_dim))
        part = (groups[:, :each], groups[:, each : each + 1], groups[:, each + 1 :])[index]
        return part.flatten(0, 2).contiguous()

    return make
