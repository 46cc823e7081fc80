"""The artifact ``corpus``: documents in Parquet shards, one set a split, beside the funnel they came through.

``train-00000-of-00002.parquet`` and ``validation-00000-of-00001.parquet`` are names by which
``datasets.load_dataset(folder)`` finds both splits. Columns: ``id`` ("<source>/<document>"), ``text`` or ``messages``
or ``prompt``/``chosen``/``rejected`` (only those that occur), ``source``, ``group``, and ``meta``, a JSON string.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from array import array
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lmgraft.artifacts._documents import CONTENT, EXTRA, MESSAGE, SCHEMA, build_documents, from_batch, sizes, to_batch
from lmgraft.errors import Fault, Problem, UserError
from lmgraft.seams.data_source import Document

__all__ = [
    "CONTENT",
    "EXTRA",
    "FUNNEL",
    "SCHEMA",
    "CorpusWriter",
    "build_documents",
    "count",
    "documents",
    "from_batch",
    "funnel",
    "schema",
    "shard_name",
    "shards",
    "sizes",
    "splits",
    "texts",
    "to_batch",
    "verify",
]

FUNNEL = "funnel.json"
SPLITS = ("train", "validation")
ROW_GROUP_BYTES = 16 << 20
_SHARD = re.compile(r"(?P<split>[a-z]+)-(?P<index>\d{5})-of-(?P<count>\d{5})\.parquet")


# --- reading ----------------------------------------------------------------------------------------------------------


def splits(path: Path) -> tuple[str, ...]:
    """The splits that the corpus holds: ``train``, and ``validation`` where something was held out."""
    found = {match["split"] for entry in path.iterdir() if (match := _SHARD.fullmatch(entry.name))}
    return tuple(split for split in SPLITS if split in found)


def shards(path: Path, split: str = "train") -> list[Path]:
    """A split's files in order; a :class:`UserError` where there are none."""
    if not path.is_dir():
        raise UserError(Problem(f"{path} is not a corpus", "there is no such folder", "name a corpus stage's artifact"))
    found = sorted(
        entry for entry in path.iterdir() if (match := _SHARD.fullmatch(entry.name)) and match["split"] == split
    )
    if not found:
        cause = f"it has {', '.join(splits(path)) or 'no shards at all'}"
        raise UserError(
            Problem(
                f"the corpus in {path} has no split {split!r}",
                cause,
                "set validation_bytes=200000 on the corpus stage" if split == "validation" else "run its stage again",
            )
        )
    return found


def count(path: Path, split: str = "train") -> int:
    """Documents of a split, from the files' footers."""
    return sum(pq.read_metadata(shard).num_rows for shard in shards(path, split))


def documents(path: Path, split: str = "train", columns: Sequence[str] | None = None) -> Iterator[Document]:
    """A split's documents, always in the same order, in bounded memory.

    ``columns`` restricts what is read from disk (``id`` always is); fields of other columns stay empty.
    """
    for batch in _batches(path, split, columns):
        yield from from_batch(batch)


def texts(path: Path, split: str = "train") -> Iterator[str]:
    """All strings of a split: one for a plain document; each content, or prompt, chosen and rejected, otherwise."""
    for batch in _batches(path, split, CONTENT):
        if set(batch.schema.names) & set(CONTENT) == {"text"}:
            yield from batch.column("text").to_pylist()
            continue
        for document in from_batch(batch):
            parts = [document.text, document.prompt, document.chosen, document.rejected]
            parts += [message.get("content") for message in document.messages or ()]
            yield from (part for part in parts if isinstance(part, str))


def funnel(path: Path) -> dict[str, Any]:
    """What every filter saw, kept, rewrote and dropped; see :mod:`lmgraft.stages.corpus` for the keys."""
    loaded: dict[str, Any] = json.loads((path / FUNNEL).read_text(encoding="utf-8"))
    return loaded


def _batches(path: Path, split: str, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    for shard in shards(path, split):
        with pq.ParquetFile(shard) as file:
            names = file.schema_arrow.names
            chosen = names if columns is None else [name for name in names if name == "id" or name in columns]
            yield from file.iter_batches(batch_size=1024, columns=chosen, use_threads=False)


# --- writing ----------------------------------------------------------------------------------------------------------


def shard_name(split: str, index: int, total: int) -> str:
    return f"{split}-{index:05d}-of-{total:05d}.parquet"


def schema(content: Collection[str]) -> pa.Schema:
    """The columns of a corpus in which only these content columns (and :data:`EXTRA`) occur."""
    fields = []
    for field in SCHEMA:
        if field.name in CONTENT and field.name not in content:
            continue
        if field.name == "messages" and EXTRA not in content:
            field = pa.field("messages", pa.list_(pa.struct([MESSAGE.field("role"), MESSAGE.field("content")])))
        fields.append(field)
    return pa.schema(fields)


class CorpusWriter:
    """Writes one shard beside its place and renames it there: a shard is whole or absent.

    ``content`` names the content columns that occur anywhere in the corpus, so that all shards agree. The bytes depend
    on the rows alone, not on how they are cut into calls of :meth:`write`.
    """

    def __init__(self, path: Path, content: Collection[str]) -> None:
        self.path = path
        self.schema = schema(content)
        self._unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        self._writer = pq.ParquetWriter(
            self._unfinished,
            self.schema,
            compression="zstd",
            use_dictionary=["source", "group"],
            write_statistics=["id", "source", "group"],
        )
        self._waiting: list[pa.RecordBatch] = []
        self._bytes = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Adds rows of :data:`SCHEMA`; further columns are left out."""
        batch = pa.record_batch([_cast(batch.column(f.name), f.type) for f in self.schema], schema=self.schema)
        for start, end in self._cuts(batch):
            self._waiting.append(batch.slice(start, end - start))
            if self._bytes >= ROW_GROUP_BYTES:
                self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()
        self._unfinished.replace(self.path)

    def __enter__(self) -> CorpusWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._writer.close()
            self._unfinished.unlink(missing_ok=True)

    def _cuts(self, batch: pa.RecordBatch) -> Iterator[tuple[int, int]]:
        """Ends of row groups within a batch: they fall where the rows so far reach a group's size, row by row."""
        ends = np.cumsum(sizes(batch))
        start = taken = 0
        while start < batch.num_rows:
            row = int(np.searchsorted(ends, ROW_GROUP_BYTES - self._bytes + taken, side="left"))
            row = max(row, start)
            if row >= batch.num_rows:
                self._bytes += int(ends[-1]) - taken
                yield start, batch.num_rows
                return
            self._bytes, taken = ROW_GROUP_BYTES, int(ends[row])
            yield start, row + 1
            start = row + 1

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting, schema=self.schema))
        self._waiting, self._bytes = [], 0


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if column.type.equals(kind):
        return column
    # Only messages differ: the struct loses ``extra``, which no message of this corpus has.
    turns = column.flatten()
    struct = pa.StructArray.from_arrays([turns.field("role"), turns.field("content")], names=["role", "content"])
    lengths = np.diff(column.offsets.to_numpy())
    nulls = column.is_null().to_numpy(zero_copy_only=False)
    ends = np.concatenate([[0], np.cumsum(np.where(nulls, 0, lengths))]).astype(np.int32)
    offsets = pa.array(ends, mask=np.append(nulls, False)) if nulls.any() else pa.array(ends)
    return pa.ListArray.from_arrays(offsets, struct, type=kind)


# --- checking ---------------------------------------------------------------------------------------------------------


def verify(path: Path) -> Iterator[Problem]:
    """Yields what is wrong: shards, columns, counts unlike the funnel's, ids that occur twice, groups in both splits.

    Memory: 8 bytes a document and about 60 a group.
    """
    remedy = "run the recipe again; if it comes back, lmgraft store verify"
    ids: array[int] = array("Q")
    groups: dict[str, set[int]] = {}
    counted: dict[str, int] = {}
    for split in splits(path):
        groups[split], counted[split] = set(), 0
        found = shards(path, split)
        numbers = [_SHARD.fullmatch(shard.name) for shard in found]
        total = int(numbers[0]["count"]) if numbers[0] else 0
        if [shard.name for shard in found] != [shard_name(split, i, total) for i in range(total)]:
            yield Problem(f"{path}: split {split} is not whole", f"{len(found)} of {total} shards are there", remedy)
        for shard in found:
            try:
                counted[split] += _verify_shard(shard, ids, groups[split])
            except (Fault, OSError, pa.ArrowException) as error:
                yield Problem(f"{shard} cannot be read", str(error), remedy)
    yield from (Problem(f"{path} is not sound", cause, remedy) for cause in _unsound(path, ids, groups, counted))


def _unsound(path: Path, ids: array[int], groups: dict[str, set[int]], counted: dict[str, int]) -> Iterator[str]:
    if "train" not in counted:
        yield "it has no train split"
    hashed = np.sort(np.frombuffer(ids, np.uint64)) if ids else np.zeros(0, np.uint64)
    if twice := int((hashed[1:] == hashed[:-1]).sum()):
        yield f"{twice} ids occur more than once"
    try:
        whole = funnel(path)
        told = {split: number for split, number in whole["documents"].items() if number}
    except (OSError, ValueError, KeyError) as error:
        yield f"{FUNNEL} cannot be read: {error}"
        return
    # All text of one group: its documents were held out one by one, and the funnel says so.
    apart = not (whole.get("validation") or {}).get("by_document")
    if apart and (both := len(groups.get("train", set()) & groups.get("validation", set()))):
        yield f"{both} groups are in both splits"
    if told != {split: number for split, number in counted.items() if number}:
        yield f"{FUNNEL} tells of {told} documents, the shards hold {counted}"


def _verify_shard(shard: Path, ids: array[int], groups: set[int]) -> int:
    with pq.ParquetFile(shard) as file:
        names = file.schema_arrow.names
        content = [name for name in CONTENT if name in names]
        if not content or not {"id", "source", "group", "meta"} <= set(names):
            raise Fault(f"its columns are {', '.join(names)}")
        for batch in file.iter_batches(batch_size=4096, columns=["id", "group", *content], use_threads=False):
            filled = sum(batch.column(name).is_valid().to_numpy(zero_copy_only=False).astype(int) for name in content)
            if (np.asarray(filled) == 0).any():
                raise Fault("a document has no content")
            ids.extend(_hash(value) for value in batch.column("id").to_pylist())
            groups.update(_hash(value) for value in batch.column("group").unique().to_pylist())
        rows: int = file.metadata.num_rows
    return rows


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
