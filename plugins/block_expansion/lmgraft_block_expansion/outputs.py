"""Which matrices of a layer write into the residual stream, told by their names.

With those at zero a layer adds nothing. The names are those of the decoders in transformers; what is not known is
refused, since a layer of which one output is left would not be the identity, and nothing would show it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Unknown", "outputs"]

#: The last word of an output's name, in some family.
_OUT = frozenset(
    {"o_proj", "out_proj", "c_proj", "dense", "wo", "down_proj", "dense_4h_to_h", "fc2", "fc_out", "w2"}
)  # fmt: skip
#: The last word of the name of a matrix whose product stays within the layer, or of a table of masks.
_WITHIN = frozenset({
    "q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value", "c_attn", "Wqkv", "wqkv", "wq", "wk", "wv",
    "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "gate_proj", "up_proj", "gate_up_proj",
    "dense_h_to_4h", "c_fc", "fc1", "fc_in", "w1", "w3", "gate", "router", "shared_expert_gate", "bias",
    "masked_bias", "inv_freq",
})  # fmt: skip
_MATRIX = 2


class Unknown(Exception):
    """The names do not tell which matrices are outputs; the text says which of them is in the way."""


def outputs(shapes: Mapping[str, tuple[int, ...]], told: Sequence[str] = ()) -> set[str]:
    """The tensors of one layer that must be zero: its outputs' weights and biases.

    :param shapes: name within the layer -> shape.
    :param told: how the outputs' names end, in place of the known ones.
    :raises Unknown: a matrix is of neither kind, or a block of the layer has no output or two.
    """
    module = {name: _module(name, shapes) for name in shapes}
    if told:
        found = {name for name in shapes if any(f".{module[name]}".endswith(f".{end}") for end in told)}
        for end in told:
            if not any(f".{module[name]}".endswith(f".{end}") for name in found):
                raise Unknown(f"no tensor of it ends in {end}")
        return found
    matrices = {module[name] for name, shape in shapes.items() if len(shape) >= _MATRIX}
    for matrix in sorted(matrices):
        if _last(matrix) not in _OUT | _WITHIN:
            raise Unknown(f"{matrix} is not known, and may be an output")
    out = {matrix for matrix in matrices if _last(matrix) in _OUT}
    _whole(matrices, out)
    return {name for name in shapes if module[name] in out}


def _whole(matrices: Iterable[str], out: set[str]) -> None:
    """Each block of the layer (attention, MLP, an expert) has one output."""
    if len({_block(module) for module in out}) < _MATRIX and len(out) < _MATRIX:
        raise Unknown(f"attention and MLP have an output each, and {', '.join(sorted(out)) or 'none'} is known")
    for module in sorted(matrices):
        if not any(_block(other) == _block(module) for other in out):
            raise Unknown(f"{module} is known, and no output beside it")
    parents: dict[str, str] = {}
    for module in sorted(out):
        parent = module.rpartition(".")[0]
        if parent and parent in parents:
            raise Unknown(f"{parents[parent]} and {module} may both be outputs")
        parents[parent] = module


def _module(name: str, names: Iterable[str]) -> str:
    """``mlp.up_proj`` of ``mlp.up_proj.weight``; of ``mlp.up_proj.bias`` too, where that has a weight: GPT-2's masks
    are called ``attn.bias``."""
    stem = name.removesuffix(".bias")
    return stem if f"{stem}.weight" in names else name.removesuffix(".weight")


def _last(module: str) -> str:
    return module.rpartition(".")[2]


def _block(module: str) -> str:
    """``mlp`` of ``mlp.experts.3.w2``; empty for a matrix that stands in the layer itself."""
    return module.partition(".")[0] if "." in module else ""
