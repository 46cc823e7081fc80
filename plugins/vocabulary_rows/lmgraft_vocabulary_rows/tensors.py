"""Which tensors of a model folder have a row for each token."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lmgraft.artifacts import checkpoint
from lmgraft.artifacts.streaming import Piece
from lmgraft.errors import Problem, UserError

__all__ = ["HEAD", "Table", "tables", "vocabulary"]

#: The head in the words of Hugging Face; left out where it is the embedding.
HEAD = "lm_head.weight"
#: An embedding and a head.
_MOST = 2

_LAYER = re.compile(r"\.\d+\.")
_POSITION = re.compile(r"(^|[._])(wpe|pos|position|positions|embed_positions)([._]|$)|position_emb|pos_emb")
_FLOATS = ("F64", "F32", "F16", "BF16")

#: Names of tensors with a row for each token; a head's bias is one of them.
Table = dict[str, Piece]


def vocabulary(model: Path, config: Mapping[str, Any]) -> int:
    """``vocab_size`` of the model's config.json.

    :raises UserError: there is none.
    """
    size = config.get("vocab_size")
    if isinstance(size, int) and size > 0:
        return size
    cause = "the new number of tokens must be written there"
    remedy = "give a decoder in Hugging Face form"
    raise UserError(Problem(f"{model / checkpoint.CONFIG} tells no vocab_size", cause, remedy))


def tables(model: Path, config: Mapping[str, Any], tensors: Mapping[str, Piece]) -> Table:
    """The embedding, the head and its bias, whatever family the model is of.

    These are the tensors outside the stack of layers with ``vocab_size`` rows, tables of positions left out. Where more
    than two have as many rows, an installed architecture that knows their names tells by its roles.

    :raises UserError: there is none, there are too many to know, or one is not of floating-point numbers.
    """
    size, role = vocabulary(model, config), _roles(model)
    shapes = {name: piece.header.shape for name, piece in tensors.items()}
    outside = [name for name in shapes if not _LAYER.search(name) and shapes[name][:1] == (size,)]
    matrices = [name for name in outside if len(shapes[name]) == 2]
    found = [name for name in matrices if role(name) != "position" and not _POSITION.search(name)]
    if len(found) > _MOST:
        found = [name for name in found if role(name) in ("embedding", "head")] or found
    biases = [f"{name.removesuffix('.weight')}.bias" for name in found if name.endswith(".weight")]
    found += [name for name in biases if shapes.get(name) == (size,)]
    _check(model, size, found, shapes, tensors)
    return {name: tensors[name] for name in found}


def _check(
    model: Path, size: int, found: list[str], shapes: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Piece]
) -> None:
    remedy = "give a decoder in Hugging Face form"
    if not found:
        rows = sorted({shape[0] for shape in shapes.values() if len(shape) == 2}, reverse=True)[:3]
        cause = f"config.json speaks of {size} tokens; its largest matrices have {', '.join(map(str, rows))} rows"
        raise UserError(Problem(f"{model} has no embedding of {size} rows", cause, remedy))
    matrices = [name for name in found if len(shapes[name]) == 2]
    if len(matrices) > _MOST:
        cause = f"an embedding and a head are {_MOST}, and nothing tells which these are"
        raise UserError(Problem(f"{model}: {', '.join(matrices)} have {size} rows each", cause, remedy))
    for name in found:
        if tensors[name].header.dtype not in _FLOATS:
            cause = f"it is {tensors[name].header.dtype}; rows are made of {', '.join(_FLOATS)}"
            raise UserError(Problem(f"{model}: {name} cannot get new rows", cause, "give the model unquantised"))


def _roles(model: Path) -> Callable[[str], str]:
    """Name -> role by the architecture that builds the model, ``""`` where none is installed or it does not know."""
    from lmgraft.loading import architecture_for

    try:
        architecture = architecture_for(model)
    except UserError:
        return lambda name: ""

    def role(name: str) -> str:
        try:
            return architecture.role(name).role.value
        except Exception:  # names in the folder need not be the architecture's own
            return ""

    return role
