"""The numbers of tensors on disk, block by block: read, computed on and written by a few threads, in bounded memory.

For tensors that are computed and not copied (:class:`lmgraft.artifacts.streaming.Computed`), without torch. A thread
holds one block of each source, so memory grows with the number of sources and of threads and never with a tensor.
Threads pay because numpy lets go of the interpreter while it computes, and so do reads and writes. Which thread makes a
block changes nothing, so the same sources give the same bytes.

Numbers are float32, or float64 where a source is. Going from and to the dtypes of files is exact, or rounds to nearest,
ties to even, as torch does (float64 goes to a 16-bit dtype by way of float32, which torch does too).
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from lmgraft.errors import Problem, UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lmgraft.artifacts.streaming import Piece

__all__ = ["BLOCK", "FLOATS", "Blocks", "Crew", "Files", "finite", "narrowed", "widened"]

#: Elements of a block: a few blocks of float32 lie in a core's own cache.
BLOCK = 1 << 16
#: Blocks of one task: handing a task to a thread costs as much as a small block.
SPAN = 8
#: More threads than these wait for the disk.
MOST_THREADS = 8

#: Dtypes that numbers are made of, in the words of safetensors; bfloat16 as its bits, since numpy has none.
FLOATS: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}

T = TypeVar("T")


class Crew:
    """A few threads that do numbered tasks; to be used in a ``with`` statement."""

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or min(_cores(), MOST_THREADS)
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="blocks")

    def each(self, count: int, task: Callable[[int], T]) -> Iterator[T]:
        """``task(0)``, ``task(1)`` ... in this order, however they were done; few are under way at once, and none when
        the iterator is closed: a file that they write may then be closed too."""
        waiting: deque[Future[T]] = deque()
        try:
            for number in range(count):
                waiting.append(self._pool.submit(task, number))
                if len(waiting) > 2 * self.threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
            wait(waiting)

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)


class Files:
    """Files that several threads read at any place; to be used in a ``with`` statement."""

    def __init__(self) -> None:
        self._open: dict[Path, int] = {}
        self._lock = threading.Lock()

    def read(self, path: Path, at: int, into: NDArray[np.uint8]) -> None:
        """Fills ``into`` with the bytes from ``at`` on.

        :raises UserError: the file ends before.
        """
        left = into.data
        while left:
            got = self._some(self._number(path), at, left)
            if not got:
                fact, cause = f"{path} ended within a tensor", "it was changed while it was read"
                raise UserError(Problem(fact, cause, "leave the model alone while it is merged"))
            left, at = left[got:], at + got

    def _some(self, number: int, at: int, into: memoryview) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(number, [into], at)
        with self._lock:  # a system without it has one position for all threads
            os.lseek(number, at, os.SEEK_SET)
            found = os.read(number, len(into))
        into[: len(found)] = found
        return len(found)

    def _number(self, path: Path) -> int:
        with self._lock:
            if path not in self._open:
                self._open[path] = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            return self._open[path]

    def __enter__(self) -> Files:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in self._open.values():
            os.close(number)
        self._open.clear()


class Blocks:
    """Several tensors with equally many elements, taken side by side as flat arrays."""

    def __init__(self, pieces: Sequence[Piece], elements: int, crew: Crew, files: Files) -> None:
        self.elements = elements
        """Of each tensor."""
        self.count = -(-elements // BLOCK)
        """Blocks."""
        self.kind: np.dtype[Any] = np.dtype(
            np.float64 if any(piece.header.dtype == "F64" for piece in pieces) else np.float32
        )
        """Of the numbers that are given: float32, or float64 where one of the tensors is."""
        self._pieces = pieces
        self._crew = crew
        self._files = files
        self._scratch = threading.local()

    def span(self, number: int) -> tuple[int, int]:
        """First element of a block, and the one after its last."""
        return number * BLOCK, min((number + 1) * BLOCK, self.elements)

    def read(self, number: int) -> list[NDArray[Any]]:
        """Block ``number`` of each tensor. The arrays may be changed; the same thread's next call fills them anew."""
        first, last = self.span(number)
        found = []
        for index, piece in enumerate(self._pieces):
            kind = FLOATS[piece.header.dtype]
            raw = self._array(("raw", index), kind)[: last - first]
            at = piece.start + first * kind.itemsize
            self._files.read(piece.header.file, at, raw.view(np.uint8))
            found.append(widened(raw, piece.header.dtype, self._array(("numbers", index), self.kind)))
        return found

    def each(self, look: Callable[[int, list[NDArray[Any]]], T]) -> list[T]:
        """``look(number, blocks)`` of every block, in their order; several threads call it at once."""

        def task(start: int) -> list[T]:
            numbers = range(start * SPAN, min((start + 1) * SPAN, self.count))
            return [look(number, self.read(number)) for number in numbers]

        return [found for part in self._crew.each(-(-self.count // SPAN), task) for found in part]

    def _array(self, key: tuple[str, int], kind: np.dtype[Any]) -> NDArray[Any]:
        """Memory of this thread for one block."""
        arrays = self._scratch.__dict__
        name = f"{key}{kind}"
        if name not in arrays:
            arrays[name] = np.empty(min(BLOCK, max(self.elements, 1)), kind)
        found: NDArray[Any] = arrays[name]
        return found


def widened(raw: NDArray[Any], dtype: str, into: NDArray[Any]) -> NDArray[Any]:
    """The numbers of a block as it lies in a file, exact; in ``into``, or the block itself where that will do.

    :param raw: of the kind ``FLOATS[dtype]``.
    :param into: float32 or float64, as long as the block at least.
    """
    if raw.dtype == into.dtype:
        return raw
    numbers = into[: len(raw)]
    if dtype == "BF16" and numbers.dtype == np.float32:
        bits = numbers.view(np.uint32)
        bits[:] = raw
        np.left_shift(bits, 16, out=bits)
    elif dtype == "BF16":
        numbers[:] = (raw.astype(np.uint32) << 16).view(np.float32)
    else:
        numbers[:] = raw
    return numbers


def narrowed(numbers: NDArray[Any], dtype: str) -> NDArray[Any]:
    """The numbers as they lie in a file, of the kind ``FLOATS[dtype]``; rounded to nearest, ties to even. What is too
    large becomes infinite."""
    if FLOATS[dtype].itemsize >= numbers.dtype.itemsize or dtype == "F32":
        with np.errstate(over="ignore"):
            return numbers.astype(FLOATS[dtype], copy=False)
    with np.errstate(over="ignore"):
        single = numbers.astype(np.float32, copy=False)
        return _bfloat16(single) if dtype == "BF16" else single.astype(FLOATS[dtype])


def finite(raw: NDArray[Any], dtype: str) -> bool:
    """Is every number of a block, as it lies in a file, finite?"""
    if dtype == "BF16":
        return not len(raw) or int(np.bitwise_and(raw, 0x7FFF).max()) < 0x7F80
    with np.errstate(invalid="ignore", over="ignore"):
        if np.isfinite(np.add.reduce(raw)):
            return True
    return bool(np.isfinite(raw).all())


def _bfloat16(numbers: NDArray[np.float32]) -> NDArray[np.uint16]:
    bits = numbers.view(np.uint32)
    # Half of the last place that stays, and a bit less where what stays is even.
    rounded = np.right_shift(bits, 16)
    np.bitwise_and(rounded, 1, out=rounded)
    np.add(rounded, 0x7FFF, out=rounded)
    np.add(rounded, bits, out=rounded)
    np.right_shift(rounded, 16, out=rounded)
    found = rounded.astype("<u2")
    with np.errstate(invalid="ignore", over="ignore"):
        suspicious = np.isnan(np.add.reduce(numbers)) if len(numbers) else False
    if suspicious:
        found[np.isnan(numbers)] = 0x7FC0  # adding would have carried into the sign
    return found


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
