"""Which type each tensor gets, and weights as bytes of that type.

The types follow llama.cpp's own quantiser (``src/llama-quant.cpp``) with one difference: the head of a ``q4_0`` file
(the embedding, where it is the head too) is ``q8_0``, where llama.cpp takes ``q6_K``, which the gguf package cannot
write. Rounding is the gguf package's (``gguf.quants``), which rounds as ggml's reference does.
"""

from __future__ import annotations

import gguf
import numpy as np
from gguf.quants import quantize
from lmgraft.errors import Problem, UserError
from numpy.typing import NDArray

from lmgraft_gguf.plugin import Type
from lmgraft_gguf.tensors import Floats

__all__ = ["FILE_TYPES", "Kind", "as_bytes", "byte_shape", "kind_of", "size_of"]

Kind = gguf.GGMLQuantizationType

#: What ``general.file_type`` says.
FILE_TYPES = {
    Type.f32: gguf.LlamaFileType.ALL_F32,
    Type.f16: gguf.LlamaFileType.MOSTLY_F16,
    Type.q8_0: gguf.LlamaFileType.MOSTLY_Q8_0,
    Type.q4_0: gguf.LlamaFileType.MOSTLY_Q4_0,
}
_KINDS = {Type.f32: Kind.F32, Type.f16: Kind.F16, Type.q8_0: Kind.Q8_0, Type.q4_0: Kind.Q4_0}
#: Never rounded: the router's few numbers decide much, positions are added as they are.
_WHOLE = ("_norm.weight", "ffn_gate_inp.weight", "position_embd.weight", "rope_freqs.weight")
_HEAD, _EMBEDDING = "output.weight", "token_embd.weight"


def kind_of(name: str, shape: tuple[int, ...], type_: Type, *, tied: bool) -> Kind:
    """The type of one tensor. Rows that do not divide into blocks of 32 become f16, as llama.cpp has it."""
    if len(shape) < 2 or not name.endswith(".weight") or name.endswith(_WHOLE):
        return Kind.F32
    kind = _KINDS[type_]
    if kind in (Kind.F32, Kind.F16):
        return kind
    if shape[-1] % 32:
        return Kind.F16
    return Kind.Q8_0 if name == (_EMBEDDING if tied else _HEAD) else kind


def byte_shape(shape: tuple[int, ...], kind: Kind) -> tuple[int, ...]:
    """The shape in bytes of a tensor of this type."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    return (*shape[:-1], shape[-1] // block * size)


def size_of(shape: tuple[int, ...], kind: Kind) -> int:
    """Its bytes."""
    return int(np.prod(byte_shape(shape, kind), dtype=np.int64))


def as_bytes(rows: Floats, kind: Kind, name: str) -> NDArray[np.uint8]:
    """Rows as they stand in the file.

    :raises UserError: a number is too large for 16 bits, in which blocks keep their scales too.
    """
    if kind is Kind.F32:
        return rows.astype("<f4", copy=False).reshape(-1).view(np.uint8)
    with np.errstate(over="ignore", invalid="ignore"):
        found = quantize(rows, kind)
    halves = found if kind is Kind.F16 else found.reshape(-1, gguf.GGML_QUANT_SIZES[kind][1])[:, :2].copy().view("<f2")
    if not np.isfinite(halves).all():
        largest = float(np.abs(rows).max())
        cause = f"its largest number is {largest:g}, and 16 bits end at 65504"
        raise UserError(Problem(f"{name} does not fit {kind.name.lower()}", cause, "type f32"))
    return np.ascontiguousarray(found).reshape(-1).view(np.uint8)
