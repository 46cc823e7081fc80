"""Model folders made of other folders' tensors, byte by byte: no torch, and memory of one buffer whatever the size.

For merges that take tensors as they are. A tensor's bytes are copied from the range of the file where it lies to the
range where it belongs, so what comes out is bit for bit what went in, in any dtype. Where the operating system copies
ranges itself (``copy_file_range`` on Linux), the bytes do not even pass through this process.
"""

from __future__ import annotations

import errno
import json
import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lmgraft.artifacts import checkpoint
from lmgraft.artifacts.checkpoint import SHARD_BYTES, Header
from lmgraft.errors import Problem, UserError

__all__ = ["Piece", "parameters", "pieces", "write"]

#: Bytes between two calls of ``progress``, and the memory of a copy that passes through this process.
BUFFER = 8 << 20

#: The order of the safetensors library, wide elements first: no tensor then begins within an element's width.
_ORDER = (
    "U64", "I64", "F64", "C64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16", "F8_E4M3", "F8_E5M2", "I8", "U8",
    "BOOL",
)  # fmt: skip

#: What a system says that cannot copy ranges between these two files.
_CANNOT = frozenset({errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF})

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Piece:
    """A tensor where it lies."""

    header: Header
    """Its file, dtype and shape."""
    start: int
    """First byte in its file."""
    size: int
    """Bytes."""


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


def parameters(plan: Mapping[str, Piece]) -> int:
    """Elements of all tensors."""
    return sum(math.prod(piece.header.shape) for piece in plan.values())


def write(
    folder: Path,
    plan: Mapping[str, Piece],
    config: Mapping[str, Any],
    generation_config: Mapping[str, Any] | None = None,
    *,
    progress: Progress = lambda done, total: None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes a model folder whose tensor ``name`` is the piece ``plan[name]``; the same plan gives the same bytes.

    Beyond ``shard_bytes`` the tensors go into several files, in the order of their names, with an index.
    ``progress(bytes done, bytes in all)`` is called after every buffer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(piece.size for piece in plan.values())
    shards = _shards(plan, shard_bytes)
    done = 0
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = checkpoint.WEIGHTS if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        with (folder / file).open("wb", buffering=0) as out:
            out.write(_head(shard))
            for piece in shard.values():
                for moved in _copy(piece, out):
                    done += moved
                    progress(done, total)
        weight_map.update(dict.fromkeys(shard, file))
    if len(shards) > 1:
        _json(folder / checkpoint.INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
    _json(folder / checkpoint.CONFIG, config)
    _json(folder / checkpoint.GENERATION_CONFIG, generation_config or {})


def _shards(plan: Mapping[str, Piece], limit: int) -> list[dict[str, Piece]]:
    shards: list[dict[str, Piece]] = [{}]
    filled = 0
    for name in sorted(plan):
        if shards[-1] and filled + plan[name].size > limit:
            shards.append({})
            filled = 0
        shards[-1][name] = plan[name]
        filled += plan[name].size
    return [_aligned(shard) for shard in shards]


def _aligned(shard: Mapping[str, Piece]) -> dict[str, Piece]:
    rank = {dtype: number for number, dtype in enumerate(_ORDER)}
    return dict(sorted(shard.items(), key=lambda item: (rank.get(item[1].header.dtype, len(rank)), item[0])))


def _head(shard: Mapping[str, Piece]) -> bytes:
    """The safetensors header: its length, and names with dtypes, shapes and offsets, padded to eight bytes."""
    content: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, piece in shard.items():
        content[name] = {
            "dtype": piece.header.dtype,
            "shape": list(piece.header.shape),
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
