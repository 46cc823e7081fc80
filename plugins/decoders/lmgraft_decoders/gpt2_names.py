"""GPT-2's tensors under transformers' names and under the canonical ones.

transformers keeps OpenAI's layout: every projection is a ``Conv1D``, whose weight is (in, out), and q, k and v are
one of (in, 3 out). Both ways only cut, join and transpose, so not one bit changes. A tensor is made when it is asked
for; names that are not GPT-2's go through as they are, so that whoever compares names sees them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from lmgraft_decoders.made import Made, Maker

__all__ = ["from_hub", "to_hub"]

OUTSIDE = {
    "model.embed_tokens.weight": "transformer.wte.weight",
    "model.embed_positions.weight": "transformer.wpe.weight",
    "model.norm.weight": "transformer.ln_f.weight",
    "model.norm.bias": "transformer.ln_f.bias",
}
#: Canonical part of a layer -> transformers' part; those of :data:`TURNED` have transposed weights.
IN_LAYER = {
    "input_layernorm": "ln_1",
    "self_attn.o_proj": "attn.c_proj",
    "post_attention_layernorm": "ln_2",
    "mlp.up_proj": "mlp.c_fc",
    "mlp.down_proj": "mlp.c_proj",
}
TURNED = frozenset({"self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"})
FUSED, PARTS = "attn.c_attn", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")

CANONICAL_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)")
HUB_LAYER = re.compile(r"transformer\.h\.(\d+)\.(.+)\.(weight|bias)")
#: The first names of OpenAI's own upload, where transformers writes ``transformer.`` before them.
BARE = re.compile(r"(h\.\d+|wte|wpe|ln_f)\.")
#: Causal masks, which older files hold beside the weights.
MASK = re.compile(r"transformer\.h\.\d+\.attn\.(bias|masked_bias)")


def to_hub(tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """Canonical tensors as those of ``GPT2LMHeadModel``. Raises KeyError where one of q, k and v lacks."""
    makers: dict[str, Maker] = {}
    for name in tensors:
        found = CANONICAL_LAYER.fullmatch(name)
        part = found[2] if found else ""
        if found and part in PARTS:
            layer, kind = found[1], found[3]
            names = [f"model.layers.{layer}.{each}.{kind}" for each in PARTS]
            makers[f"transformer.h.{layer}.{FUSED}.{kind}"] = _joined(tensors, names)
        elif found and part in IN_LAYER:
            makers[f"transformer.h.{found[1]}.{IN_LAYER[part]}.{found[3]}"] = _one(tensors, name, part, found[3])
        else:
            makers[OUTSIDE.get(name, name)] = _one(tensors, name)
    return Made(makers)


def from_hub(tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """The canonical tensors of a GPT-2 as transformers stores it."""
    back = {theirs: own for own, theirs in IN_LAYER.items()}
    outside = {theirs: own for own, theirs in OUTSIDE.items()}
    makers: dict[str, Maker] = {}
    for stored in tensors:
        name = f"transformer.{stored}" if BARE.match(stored) else stored
        if MASK.fullmatch(name):
            continue
        found = HUB_LAYER.fullmatch(name)
        if found and found[2] == FUSED:
            for index, part in enumerate(PARTS):
                makers[f"model.layers.{found[1]}.{part}.{found[3]}"] = _third(tensors, stored, index)
        elif found and found[2] in back:
            part = back[found[2]]
            makers[f"model.layers.{found[1]}.{part}.{found[3]}"] = _one(tensors, stored, part, found[3])
        else:
            makers[outside.get(name, name)] = _one(tensors, stored)
    return Made(makers)


def _one(tensors: Mapping[str, torch.Tensor], name: str, part: str = "", kind: str = "") -> Maker:
    turned = part in TURNED and kind == "weight"
    return lambda: _turn(tensors[name]) if turned else tensors[name]


def _joined(tensors: Mapping[str, torch.Tensor], names: list[str]) -> Maker:
    return lambda: torch.cat([_turn(tensors[name]) for name in names], -1)


def _third(tensors: Mapping[str, torch.Tensor], name: str, index: int) -> Maker:
    return lambda: _turn(_split(tensors[name])[index])


def _split(fused: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Three parts whatever the width; a wrong one is then told by its shape."""
    return torch.tensor_split(fused, 3, -1) if fused.dim() else (fused,) * 3


def _turn(tensor: torch.Tensor) -> torch.Tensor:
    """The transpose of a matrix, laid out anew; a bias is itself."""
    return tensor.transpose(0, -1).contiguous() if tensor.dim() else tensor
