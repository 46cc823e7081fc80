"""The texts of a corpus in one file, mapped into memory, found by position."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lmgraft_exact_substring.rolling import Bytes, Ints

__all__ = ["Texts", "TextsWriter"]


class TextsWriter:
    """Takes texts in the order of their positions, each in one piece or several."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = (folder / "texts").open("wb")
        self._index = (folder / "index").open("wb")
        self._last = -1

    def add(self, position: int, piece: bytes) -> None:
        if position != self._last:
            self._index.write(np.array([position, self._data.tell()], np.int64).tobytes())
            self._last = position
        self._data.write(piece)

    def close(self) -> Texts:
        """The texts, readable."""
        self._index.write(np.array([self._last + 1, self._data.tell()], np.int64).tobytes())
        self._data.close()
        self._index.close()
        return Texts(self._folder)


class Texts:
    def __init__(self, folder: Path) -> None:
        self._data = _mapped(folder / "texts", np.uint8)
        self._index = _mapped(folder / "index", np.int64).reshape(-1, 2)

    def bounds(self, positions: Ints) -> tuple[Ints, Ints]:
        """(first, stop) of the texts at these positions, in bytes of the file."""
        places = np.searchsorted(self._index[:-1, 0], positions)
        return self._index[places, 1], self._index[places + 1, 1]

    def text(self, position: int) -> Bytes:
        """A text's bytes."""
        (first,), (stop,) = self.bounds(np.array([position]))
        return np.asarray(self._data[first:stop])

    def windows(self, starts: Ints, width: int) -> Bytes:
        """(len(starts), width): bytes of the file from each start on; what lies outside it is any byte."""
        places = starts[:, None] + np.arange(width)
        return np.asarray(self._data[np.clip(places, 0, len(self._data) - 1)])


def _mapped(path: Path, kind: Any) -> np.ndarray[Any, Any]:
    return np.memmap(path, kind, "r") if path.stat().st_size else np.zeros(0, kind)
