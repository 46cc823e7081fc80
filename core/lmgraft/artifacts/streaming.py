"""Model folders made of other folders' tensors, copied or computed: no torch, and memory of a few blocks whatever the
size.

For merges. A tensor that is taken as it is (:class:`Piece`) is copied from the range of the file where it lies to the
range where it belongs, so what comes out is bit for bit what went in, in any dtype. Where the operating system copies
ranges itself (``copy_file_range`` on Linux), the bytes do not even pass through this process. One that is made of
others (:class:`Computed`) is computed block by block while it is written (:mod:`lmgraft.artifacts.blocks`).
"""

from __future__ import annotations

import errno
import json
import math
import os
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lmgraft.artifacts import checkpoint
from lmgraft.artifacts.checkpoint import SHARD_BYTES, WIDTHS, Header
from lmgraft.errors import Problem, UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lmgraft.artifacts.blocks import Blocks, Crew, Files

__all__ = ["Computed", "Piece", "Rule", "parameters", "pieces", "write", "zeros"]

#: Bytes between two calls of ``progress``, and the memory of a copy that passes through this process.
BUFFER = 8 << 20

#: The order of the safetensors library, wide elements first: no tensor then begins within an element's width.
_ORDER = (
    "U64", "I64", "F64", "C64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16", "F8_E4M3", "F8_E5M2", "I8", "U8",
    "BOOL",
)  # fmt: skip

#: What a system says that cannot copy ranges between these two files.
_CANNOT = frozenset({errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF})

#: Where a file has one position for all threads.
_ONE_POSITION = threading.Lock()

Progress = Callable[[int, int], None]

#: How a tensor is made of its sources. It is called once for the tensor and may look at the sources as often as it
#: wants (``blocks.each``); what it gives is called for each block, by several threads, with the block's number and the
#: sources' numbers, which it may change, and gives the block of the tensor.
Rule = Callable[["Blocks"], Callable[[int, "list[NDArray[Any]]"], "NDArray[Any]"]]


@dataclass(frozen=True, slots=True)
class Piece:
    """A tensor where it lies."""

    header: Header
    """Its file, dtype and shape."""
    start: int
    """First byte in its file."""
    size: int
    """Bytes."""

    @property
    def dtype(self) -> str:
        """In safetensors' words."""
        return self.header.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """As torch gives it."""
        return self.header.shape


@dataclass(frozen=True, slots=True)
class Computed:
    """A tensor that is made while it is written, element by element of others with as many elements."""

    dtype: str
    """``F64``, ``F32``, ``F16`` or ``BF16``: what is computed is rounded to it, once."""
    shape: tuple[int, ...]
    """As torch gives it."""
    sources: Sequence[Piece]
    """What it is made of, in the dtypes above, each with as many elements."""
    rule: Rule
    """How."""

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * WIDTHS[self.dtype]


def pieces(folder: Path) -> dict[str, Piece]:
    """Every tensor of a model folder, from the files' headers.

    :raises UserError: as :func:`lmgraft.artifacts.checkpoint.headers`.
    """
    found = {}
    headers = checkpoint.headers(folder)  # checks every file's length and every shape
    for file in sorted({header.file for header in headers.values()}):
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            content = json.loads(stream.read(length))
        for name, entry in content.items():
            if name != "__metadata__":
                start, end = entry["data_offsets"]
                found[name] = Piece(headers[name], 8 + length + start, end - start)
    return found


def zeros(dtype: str, shape: tuple[int, ...]) -> Computed:
    """A tensor of zeros."""

    def rule(blocks: Blocks) -> Callable[[int, list[NDArray[Any]]], NDArray[Any]]:
        import numpy as np

        def block(number: int, sources: list[NDArray[Any]]) -> NDArray[Any]:
            first, last = blocks.span(number)
            return np.zeros(last - first, blocks.kind)

        return block

    return Computed(dtype, shape, (), rule)


def parameters(plan: Mapping[str, Piece | Computed]) -> int:
    """Elements of all tensors."""
    return sum(math.prod(piece.shape) for piece in plan.values())


def write(
    folder: Path,
    plan: Mapping[str, Piece | Computed],
    config: Mapping[str, Any],
    generation_config: Mapping[str, Any] | None = None,
    *,
    progress: Progress = lambda done, total: None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes a model folder whose tensor ``name`` is ``plan[name]``; the same plan gives the same bytes.

    Beyond ``shard_bytes`` the tensors go into several files, in the order of their names, with an index.
    ``progress(bytes done, bytes in all)`` is called after every few megabytes. What it had written is removed where it
    fails.

    :raises UserError: a source ends early, or what is computed is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(piece.size for piece in plan.values())
    shards = _shards(plan, shard_bytes)
    done = 0
    weight_map: dict[str, str] = {}
    written: list[Path] = []
    try:
        with _Writer(any(isinstance(piece, Computed) for piece in plan.values())) as writer:
            for number, shard in enumerate(shards, 1):
                file = (
                    checkpoint.WEIGHTS if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
                )
                written.append(folder / file)
                for moved in writer.file(folder / file, shard):
                    done += moved
                    progress(done, total)
                weight_map.update(dict.fromkeys(shard, file))
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    if len(shards) > 1:
        _json(folder / checkpoint.INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
    _json(folder / checkpoint.CONFIG, config)
    _json(folder / checkpoint.GENERATION_CONFIG, generation_config or {})


class _Writer(ExitStack):
    """Writes files of tensors; threads and open sources are there as long as it is, where something is computed."""

    def __init__(self, computes: bool) -> None:
        super().__init__()
        self._crew: Crew | None = None
        self._files: Files | None = None
        if computes:
            from lmgraft.artifacts.blocks import Crew, Files

            self._files = self.enter_context(Files())
            self._crew = self.enter_context(Crew())  # ends before the files are closed

    def file(self, path: Path, shard: Mapping[str, Piece | Computed]) -> Iterator[int]:
        """Writes one file; gives the bytes of tensors written, bit by bit."""
        with path.open("wb", buffering=0) as out:
            at = out.write(_head(shard))
            for name, piece in shard.items():
                out.seek(at)
                yield from _copy(piece, out) if isinstance(piece, Piece) else self._compute(name, piece, out, at)
                at += piece.size

    def _compute(self, name: str, tensor: Computed, out: IO[bytes], at: int) -> Iterator[int]:
        from lmgraft.artifacts import blocks

        assert self._crew is not None
        assert self._files is not None
        sources = blocks.Blocks(tensor.sources, math.prod(tensor.shape), self._crew, self._files)
        made, width = tensor.rule(sources), WIDTHS[tensor.dtype]

        def task(start: int) -> int:
            moved = 0
            for number in range(start * blocks.SPAN, min((start + 1) * blocks.SPAN, sources.count)):
                raw = blocks.narrowed(made(number, sources.read(number)), tensor.dtype)
                if not blocks.finite(raw, tensor.dtype):
                    raise UserError(_not_finite(name, tensor, sources.read(number)))
                moved += _put(out, at + sources.span(number)[0] * width, raw.data.cast("B"))
            return moved

        yield from self._crew.each(-(-sources.count // blocks.SPAN), task)


def _not_finite(name: str, tensor: Computed, sources: Sequence[NDArray[Any]]) -> Problem:
    import numpy as np

    for piece, numbers in zip(tensor.sources, sources, strict=True):
        if not np.isfinite(numbers).all():
            what = "NaN" if np.isnan(numbers).any() else "an infinite number"
            fact = f"{piece.header.file}: {name} holds {what}"
            return Problem(fact, "it would spoil what it is merged with", "fetch the model again, or leave it out")
    cause = f"what is computed for it is too large for {tensor.dtype}, or is no number"
    return Problem(f"{name} cannot be merged", cause, "take weights nearer to 1, or write a wider dtype")


def _put(out: IO[bytes], at: int, block: memoryview) -> int:
    """Writes at a place of the file; threads do so at the same time."""
    done = 0
    while done < len(block):  # a write may take a part
        done += _write_at(out, at + done, block[done:])
    return done


def _write_at(out: IO[bytes], at: int, block: memoryview) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(out.fileno(), block, at)
    with _ONE_POSITION:
        out.seek(at)
        return out.write(block)


def _shards(plan: Mapping[str, Piece | Computed], limit: int) -> list[dict[str, Piece | Computed]]:
    shards: list[dict[str, Piece | Computed]] = [{}]
    filled = 0
    for name in sorted(plan):
        if shards[-1] and filled + plan[name].size > limit:
            shards.append({})
            filled = 0
        shards[-1][name] = plan[name]
        filled += plan[name].size
    return [_aligned(shard) for shard in shards]


def _aligned(shard: Mapping[str, Piece | Computed]) -> dict[str, Piece | Computed]:
    rank = {dtype: number for number, dtype in enumerate(_ORDER)}
    return dict(sorted(shard.items(), key=lambda item: (rank.get(item[1].dtype, len(rank)), item[0])))


def _head(shard: Mapping[str, Piece | Computed]) -> bytes:
    """The safetensors header: its length, and names with dtypes, shapes and offsets, padded to eight bytes."""
    content: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, piece in shard.items():
        content[name] = {
            "dtype": piece.dtype,
            "shape": list(piece.shape),
            "data_offsets": [start, start + piece.size],
        }
        start += piece.size
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _copy(piece: Piece, out: IO[bytes]) -> Iterator[int]:
    """Copies a tensor's bytes to where ``out`` stands; gives how many, block by block."""
    with piece.header.file.open("rb", buffering=0) as source:
        at, end = piece.start, piece.start + piece.size
        while at < end:
            moved = _move(source, at, min(BUFFER, end - at), out)
            if not moved:
                fact, cause = f"{piece.header.file} ended within a tensor", "it was changed while it was read"
                raise UserError(Problem(fact, cause, "leave the model alone while it is merged"))
            at += moved
            yield moved


def _move(source: IO[bytes], at: int, size: int, out: IO[bytes]) -> int:
    """At most ``size`` bytes from ``at`` on; 0 at the end of the file."""
    if hasattr(os, "copy_file_range"):
        try:
            moved = os.copy_file_range(source.fileno(), out.fileno(), size, at)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
        else:
            if moved:  # some file systems answer 0 where they mean that they cannot
                return moved
    source.seek(at)
    block = memoryview(source.read(size))
    moved = 0
    while moved < len(block):  # an unbuffered write may take a part
        moved += out.write(block[moved:])
    return moved


def _json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(dict(content), indent=2, sort_keys=True) + "\n", encoding="utf-8")
