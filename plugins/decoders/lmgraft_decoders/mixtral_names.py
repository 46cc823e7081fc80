"""Mixtral's tensors under the published names, under those of transformers 5's module, and under the canonical ones.

Published files, and all that transformers 5 writes, have the matrices of each expert apart: w1 (gate), w3 (up) and w2
(down). Its module in memory, whose state some tools save as it is, has those of all experts in one tensor, gate above
up. Both are read; the published ones are written. A tensor is made when it is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from lmgraft_decoders import llama_names
from lmgraft_decoders.made import Made, Maker, same

__all__ = ["from_hub", "to_hub"]

PARTS = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}
CANONICAL = re.compile(r"(model\.layers\.\d+)\.mlp\.(?:(router)|experts\.(\d+)\.(gate_proj|up_proj|down_proj))\.weight")
HUB = re.compile(r"(model\.layers\.\d+)\.(?:block_sparse_moe|mlp)\.(?:(gate)|experts\.(\d+)\.(w[123]))\.weight")
STACKED = re.compile(r"(model\.layers\.\d+)\.(?:block_sparse_moe|mlp)\.experts\.(gate_up_proj|down_proj)")


def to_hub(tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """Canonical tensors as those of ``MixtralForCausalLM`` on disk."""
    makers: dict[str, Maker] = {}
    for name in tensors:
        found = CANONICAL.fullmatch(name)
        if found:
            inner = "gate" if found[2] else f"experts.{found[3]}.{PARTS[found[4]]}"
            makers[f"{found[1]}.block_sparse_moe.{inner}.weight"] = same(tensors, name)
        else:
            makers[name] = same(tensors, name)
    return Made(makers)


def from_hub(tensors: Mapping[str, torch.Tensor], experts: int) -> Mapping[str, torch.Tensor]:
    """The canonical tensors of a Mixtral, of both layouts."""
    back = {theirs: own for own, theirs in PARTS.items()}
    tensors = llama_names.from_hub(tensors)
    makers: dict[str, Maker] = {}
    for name in tensors:
        if found := HUB.fullmatch(name):
            inner = "router" if found[2] else f"experts.{found[3]}.{back[found[4]]}"
            makers[f"{found[1]}.mlp.{inner}.weight"] = same(tensors, name)
        elif found := STACKED.fullmatch(name):
            parts = ("gate_proj", "up_proj") if found[2] == "gate_up_proj" else ("down_proj",)
            for expert in range(experts):
                for index, part in enumerate(parts):
                    at = f"{found[1]}.mlp.experts.{expert}.{part}.weight"
                    makers[at] = _of_stack(tensors, name, experts, expert, (index, len(parts)))
        else:
            makers[name] = same(tensors, name)
    return Made(makers)


def _of_stack(
    tensors: Mapping[str, torch.Tensor], name: str, experts: int, expert: int, part: tuple[int, int]
) -> Maker:
    def make() -> torch.Tensor:
        stack, (index, count) = tensors[name], part
        if stack.dim() != 3 or len(stack) != experts:
            return stack.reshape(-1)  # of another shape, and told by that
        return torch.tensor_split(stack[expert], count)[index].contiguous()

    return make
