"""Tensors of a GGUF file as rows of tensors of a model folder, read when they are written: numpy, no torch.

What llama.cpp has other than Hugging Face is the order of rows (queries and keys of a llama; queries, keys and values
in one matrix), a transposed matrix (GPT-2's), or several matrices in one (experts). All are said by a :class:`Part`,
so a tensor of any size is read in blocks of rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from lmgraft.artifacts.streaming import Piece
from lmgraft.errors import Problem, UserError
from numpy.typing import NDArray

__all__ = ["Part", "Tensor", "check", "given"]

Floats = NDArray[np.float32]

#: Elements that are read, and so are in memory, at once.
BLOCK = 1 << 20

#: safetensors' word -> numpy's; BF16 is the upper half of a float32.
TYPES = {"F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}


@dataclass(frozen=True, slots=True)
class Part:
    """A matrix (or a vector, as a matrix of one column) of a model folder."""

    piece: Piece | None
    """Where it lies; None: ``values`` are it."""
    transposed: bool = False
    """Its columns are the rows."""
    order: NDArray[np.int64] | None = None
    """Row ``i`` is the file's row ``order[i]``."""
    values: Floats | None = None
    """What is computed and lies nowhere."""

    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        rows, columns = self._stored().shape
        return (columns, rows) if self.transposed else (rows, columns)

    def rows(self, start: int, stop: int) -> Floats:
        """These rows in float32, (stop - start, columns)."""
        stored = self._stored()
        if self.transposed:
            stored = stored.T
        picked = stored[start:stop] if self.order is None else stored[self.order[start:stop]]
        if self.piece is not None and self.piece.header.dtype == "BF16":
            return np.ascontiguousarray((picked.astype(np.uint32) << np.uint32(16)).view(np.float32))
        return np.ascontiguousarray(picked, dtype=np.float32)

    def _stored(self) -> NDArray[np.generic]:
        if self.piece is None:
            assert self.values is not None
            return self.values.reshape(-1, 1)
        header = self.piece.header
        shape = header.shape if len(header.shape) == 2 else (math.prod(header.shape), 1)
        return np.memmap(header.file, TYPES[header.dtype], "r", self.piece.start, shape)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the file that is written."""

    name: str
    """llama.cpp's."""
    shape: tuple[int, ...]
    """As numpy has it, rows first."""
    parts: tuple[Part, ...]
    """Below one another."""

    def blocks(self) -> Iterator[Floats]:
        """All rows, in blocks of a few megabytes at most."""
        for part in self.parts:
            rows, columns = part.shape()
            step = max(1, BLOCK // columns)
            for start in range(0, rows, step):
                yield part.rows(start, min(start + step, rows))


def given(
    pieces: Mapping[str, Piece], source: str, name: str, *, transposed: bool = False, order: Sequence[int] | None = None
) -> Tensor:
    """The tensor ``name``, made of the folder's ``source``."""
    piece = pieces[source]
    part = Part(piece, transposed, None if order is None else np.asarray(order, dtype=np.int64))
    shape = piece.header.shape
    return Tensor(name, (shape[1], shape[0]) if transposed else shape, (part,))


def check(pieces: Mapping[str, Piece]) -> None:
    """:raises UserError: a tensor is of a type that is no floating point of two bytes or more."""
    for name, piece in pieces.items():
        if piece.header.dtype not in TYPES:
            fact = f"{piece.header.file} holds {name} as {piece.header.dtype}"
            cause = f"gguf is made of {', '.join(TYPES)}: weights that are quantised already would be rounded twice"
            raise UserError(Problem(fact, cause, "give the model before it was quantised"))
