"""Model folders made of other folders' tensors, byte by byte: no torch, and memory of one buffer whatever the size.

For merges that take tensors as they are. A tensor's bytes are copied from the range of the file where it lies to the
range where it belongs, so what comes out is bit for bit what went in, in any dtype.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmgraft.artifacts import checkpoint
from lmgraft.artifacts.checkpoint import SHARD_BYTES, Header

__all__ = ["Piece", "parameters", "pieces", "write"]

BUFFER = 16 << 20

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Piece:
    """A tensor where it lies."""

    header: Header
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
    total = 0
    for piece in plan.values():
        count = 1
        for size in piece.header.shape:
            count *= size
        total += count
    return total


def write(
    folder: Path,
    plan: Mapping[str, Piece],
    config: Mapping[str, Any],
    generation_config: Mapping[str, Any] | None = None,
    *,
    progress: Progress = lambda done, total: None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes a model folder whose tensor ``name`` is the piece ``plan[name]``, in the order of the names, with an index
    where the tensors go into several files. ``progress(bytes done, bytes in all)`` after every buffer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(piece.size for piece in plan.values())
    shards = _shards(plan, shard_bytes)
    done = 0
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file = checkpoint.WEIGHTS if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        with (folder / file).open("wb") as out:
            out.write(_head({name: plan[name] for name in names}))
            for name in names:
                done = _copy(plan[name], out, done, total, progress)
        weight_map.update(dict.fromkeys(names, file))
    if len(shards) > 1:
        _json(folder / checkpoint.INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
    _json(folder / checkpoint.CONFIG, config)
    _json(folder / checkpoint.GENERATION_CONFIG, generation_config or {})


def _shards(plan: Mapping[str, Piece], limit: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    filled = 0
    for name in sorted(plan):
        if shards[-1] and filled + plan[name].size > limit:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += plan[name].size
    return shards


def _head(plan: Mapping[str, Piece]) -> bytes:
    """The safetensors header: its length, and names with dtypes, shapes and offsets, padded to eight bytes."""
    content: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, piece in plan.items():
        content[name] = {
            "dtype": piece.header.dtype,
            "shape": list(piece.header.shape),
            "data_offsets": [start, start + piece.size],
        }
        start += piece.size
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _copy(piece: Piece, out: Any, done: int, total: int, progress: Progress) -> int:
    with piece.header.file.open("rb", buffering=0) as source:
        source.seek(piece.start)
        left = piece.size
        while left:
            block = source.read(min(BUFFER, left))
            if not block:
                raise OSError(f"{piece.header.file} ended within a tensor")
            out.write(block)
            left -= len(block)
            done += len(block)
            progress(done, total)
    return done


def _json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(dict(content), indent=2, sort_keys=True) + "\n", encoding="utf-8")
