"""New rows beside old ones, block by block: bytes of old rows are copied, new rows computed in float32.

Rows from mean and covariance: with C the old rows less their mean (n rows) and z standard normal, ``mean + sqrt(scale /
n) z C`` has just that mean and ``scale`` times that covariance (C' C / n, as transformers divides). No matrix is
decomposed, so it holds for more columns than rows and for covariances of any rank, and memory is that of a block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from lmgraft.artifacts.streaming import Piece
from numpy.typing import NDArray

from lmgraft_vocabulary_rows.plugin import Rows
from lmgraft_vocabulary_rows.vocabulary import ABSENT, Exchange

__all__ = ["OldRows", "new_rows", "write_table"]

#: Rows in memory at once.
BLOCK = 1024

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

#: New ids -> their rows, (ids, width) float32.
NewRows = Callable[[Sequence[int]], torch.Tensor]


class OldRows:
    """The rows of a tensor where it lies; pages that were read do not count as this process's memory."""

    def __init__(self, piece: Piece) -> None:
        self.dtype = _DTYPES[piece.header.dtype]
        self.count = piece.header.shape[0]
        self._bytes = np.memmap(
            piece.header.file, np.uint8, "r", offset=piece.start, shape=(self.count, piece.size // self.count)
        )
        self.width = self._bytes.shape[1] // self.dtype.itemsize

    def raw(self, rows: Sequence[int]) -> NDArray[np.uint8]:
        """(rows, bytes of a row), as they are in the file."""
        return np.asarray(self._bytes[np.asarray(rows, dtype=np.int64)])

    def numbers(self, rows: Sequence[int]) -> torch.Tensor:
        """(rows, width) float32."""
        return torch.from_numpy(self.raw(rows)).view(self.dtype).float()

    def blocks(self) -> Iterator[torch.Tensor]:
        for start in range(0, self.count, BLOCK):
            yield self.numbers(range(start, min(start + BLOCK, self.count)))

    def mean(self) -> torch.Tensor:
        """(width,) float32, summed in float64."""
        total = torch.zeros(self.width, dtype=torch.float64)
        for block in self.blocks():
            total += block.double().sum(0)
        return (total / self.count).float()


def new_rows(old: OldRows, how: Rows, words: Exchange, *, scale: float, std: float, seed: int) -> NewRows:
    """What gives the rows of new tokens. Draws depend on the seed and on the order of the calls."""
    chance = torch.Generator().manual_seed(seed)
    if how is Rows.normal:
        return lambda ids: std * torch.randn(len(ids), old.width, generator=chance)
    mean = old.mean()
    if how is Rows.subpieces:

        def of_pieces(ids: Sequence[int]) -> torch.Tensor:
            found = [words.subpieces(index) for index in ids]
            return torch.stack([old.numbers(rows).mean(0) if rows else mean for rows in found])

        return of_pieces
    if how is Rows.mean or scale == 0:
        return lambda ids: mean.expand(len(ids), -1)

    def drawn(ids: Sequence[int]) -> torch.Tensor:
        total = torch.zeros(len(ids), old.width)
        for block in old.blocks():
            total += torch.randn(len(ids), len(block), generator=chance) @ (block - mean)
        return mean + math.sqrt(scale / old.count) * total

    return drawn


def write_table(file: Path, old: OldRows, rows: Sequence[int], fresh: NewRows, alive: Callable[[], None]) -> None:
    """Writes the rows one after the other: those of ``rows`` that are not absent as they are, the others as ``fresh``
    gives them. ``alive`` is called after each block."""
    with file.open("wb") as stream:
        for start in range(0, len(rows), BLOCK):
            block = np.asarray(rows[start : start + BLOCK], dtype=np.int64)
            raw = old.raw(np.where(block == ABSENT, 0, block).tolist()).copy()
            missing = np.flatnonzero(block == ABSENT)
            if len(missing):
                made = fresh((start + missing).tolist()).to(old.dtype).contiguous()
                raw[missing] = made.view(torch.uint8).numpy()
            stream.write(raw.tobytes())
            alive()
