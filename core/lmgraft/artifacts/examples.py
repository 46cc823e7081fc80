"""Encoded rows: what an objective made of a corpus, for every stage that trains on it or scores it.

``train-00000-of-00002.parquet`` and ``validation-00000-of-00001.parquet``, the names by which
``datasets.load_dataset(folder)`` finds both splits, hold one row a sequence in the order of the corpus: ``document``
(its id), ``unit`` (sequences of one number belong together; it counts the split's units from 0), ``role`` within the
unit, ``tokens``, ``weights`` (of each token as something to predict; the first one's is never used) and ``values``, the
numbers that the loss reads, in the order of their names in the manifest. Weights are exact: a mask of zeros and ones
is a dictionary of two entries in runs, which takes a few bytes a row.

Rows of all lengths are there: how long a row may be is a setting of the stage that trains on it. ``rows.json`` says
what encoded them and how, and the tokenizer's files lie beside.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lmgraft.errors import Fault, Problem, UserError

__all__ = [
    "MANIFEST",
    "SCHEMA",
    "EncodedBy",
    "Row",
    "RowCount",
    "RowsInfo",
    "ShardWriter",
    "bucket",
    "info",
    "is_rows",
    "rows",
    "shard_name",
    "units",
    "verify",
]

MANIFEST = "rows.json"
SCHEMA = pa.schema(
    [
        ("document", pa.string()),
        ("unit", pa.int64()),
        ("role", pa.int8()),
        ("tokens", pa.list_(pa.int32())),
        ("weights", pa.list_(pa.float32())),
        ("values", pa.list_(pa.float64())),
    ]
)

#: Tokens of a row group: what a writer holds in memory, and a reader.
GROUP = 1 << 20
#: Sequences of a row group at most, so that very short ones do not pile up.
GROUP_ROWS = 1 << 15
_SHARD = re.compile(r"(?P<split>[a-z]+)-(?P<index>\d{5})-of-(?P<count>\d{5})\.parquet")


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence."""

    document: str
    unit: int
    role: int
    tokens: NDArray[np.int32]
    weights: NDArray[np.float32]
    values: Sequence[float] = ()

    def __post_init__(self) -> None:
        """:raises Fault: as many weights as tokens are wanted: columns are cut at the same places."""
        if len(self.tokens) != len(self.weights):
            raise Fault(f"row {self.document!r} has {len(self.tokens)} tokens and {len(self.weights)} weights")


@dataclass(frozen=True, slots=True)
class EncodedBy:
    """The objective that made the rows; two that are equal make the same rows of the same documents."""

    part: str
    """Its name."""
    package: str
    """sha256 over its package's files."""
    revision: int
    settings: Mapping[str, Any]
    """Those that decide what ``encode`` makes of a document."""


@dataclass(frozen=True, slots=True)
class RowCount:
    """What a split holds."""

    documents: int = 0
    """Read from the corpus."""
    units: int = 0
    sequences: int = 0
    tokens: int = 0
    """Predicted positions: the first token of a sequence is none."""
    learnt: int = 0
    """Those of them that have a weight."""
    empty: int = 0
    """Documents that hold nothing to learn."""
    longest: int = 0
    """Predicted positions of the longest sequence."""
    lengths: dict[str, int] = field(default_factory=dict)
    """Histogram: the most predicted positions of a bucket -> its sequences; see :func:`bucket`."""


@dataclass(frozen=True, slots=True)
class RowsInfo:
    """``rows.json``: what a folder of encoded rows holds."""

    vocab_size: int
    fingerprint: str
    """Of the tokenizer that encoded them."""
    end_id: int
    pad_id: int
    corpus: str
    """The digest of the corpus that they were made of."""
    objective: EncodedBy
    values: list[str]
    """Names of the column ``values``, in its order."""
    splits: dict[str, RowCount]

    def write(self, folder: Path) -> None:
        text = json.dumps(asdict(self), indent=1, sort_keys=True, ensure_ascii=False)
        (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def bucket(length: int) -> int:
    """The most predicted positions of the histogram's bucket that ``length`` falls into: 16, 24, 32, 48, 64, 96 ..."""
    edge = 16
    while length > edge:
        edge = edge * 3 // 2 if edge & (edge - 1) == 0 else edge // 3 * 4
    return edge


# --- writing ----------------------------------------------------------------------------------------------------------


def shard_name(split: str, index: int, total: int) -> str:
    return f"{split}-{index:05d}-of-{total:05d}.parquet"


class ShardWriter:
    """Writes one file beside its place and renames it there when it is closed. The bytes depend on the rows alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tokens = 0
        self._unfinished = path.with_name(f".{path.name}.partial")
        self._writer = pq.ParquetWriter(
            self._unfinished, SCHEMA, compression="zstd", use_dictionary=["weights.list.element", "role"]
        )
        self._waiting: list[Row] = []
        self._size = 0

    def add(self, row: Row) -> None:
        self._waiting.append(row)
        self._size += len(row.tokens)
        self.tokens += len(row.tokens)
        if self._size >= GROUP or len(self._waiting) >= GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()
        with self._unfinished.open("rb") as file:
            os.fsync(file.fileno())
        self._unfinished.replace(self.path)

    def discard(self) -> None:
        """Leaves nothing behind."""
        self._writer.close()
        self._unfinished.unlink(missing_ok=True)

    def _flush(self) -> None:
        held, self._waiting, self._size = self._waiting, [], 0
        if held:
            self._writer.write_batch(_batch(held))


def _batch(held: Sequence[Row]) -> pa.RecordBatch:
    sizes = np.array([len(row.tokens) for row in held])
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32))
    columns = [
        pa.array([row.document for row in held], pa.string()),
        pa.array([row.unit for row in held], pa.int64()),
        pa.array([row.role for row in held], pa.int8()),
        pa.ListArray.from_arrays(offsets, pa.array(np.concatenate([row.tokens for row in held]), pa.int32())),
        pa.ListArray.from_arrays(offsets, pa.array(np.concatenate([row.weights for row in held]), pa.float32())),
        pa.array([list(row.values) for row in held], pa.list_(pa.float64())),
    ]
    return pa.record_batch(columns, schema=SCHEMA)


# --- reading ----------------------------------------------------------------------------------------------------------


def is_rows(folder: Path) -> bool:
    """Whether a folder of the kind ``tokens`` holds encoded rows, and not packed text."""
    return (folder / MANIFEST).is_file()


def info(folder: Path) -> RowsInfo:
    """:raises UserError: the manifest is missing or damaged."""
    path = folder / MANIFEST
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        splits = {name: RowCount(**count) for name, count in held.pop("splits").items()}
        return RowsInfo(**held | {"objective": EncodedBy(**held["objective"])}, splits=splits)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        cause = f"a folder of encoded rows says there what it holds ({type(error).__name__}: {error})"
        raise UserError(Problem(f"{path} cannot be read", cause, "run the stage that makes it again")) from error


def rows(folder: Path, split: str) -> Iterator[Row]:
    """The sequences of a split in order, in bounded memory; none where the split is absent.

    :raises UserError: a file is damaged.
    """
    for path in _shards(folder, split):
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=1024, use_threads=False):
                    yield from _from_batch(batch)
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            remedy = "run the stage that makes it again"
            raise UserError(Problem(f"{path} cannot be read", str(error), remedy)) from error


def units(folder: Path, split: str) -> Iterator[list[Row]]:
    """The sequences of each unit together."""
    found: list[Row] = []
    for row in rows(folder, split):
        if found and row.unit != found[0].unit:
            yield found
            found = []
        found.append(row)
    if found:
        yield found


def _shards(folder: Path, split: str) -> list[Path]:
    found = [entry for entry in folder.iterdir() if (name := _SHARD.fullmatch(entry.name)) and name["split"] == split]
    return sorted(found)


def _from_batch(batch: pa.RecordBatch) -> Iterator[Row]:
    plain = [batch.column(name).to_pylist() for name in ("document", "unit", "role")]
    tokens, weights = (batch.column(name) for name in ("tokens", "weights"))
    ids, marks = tokens.values.to_numpy(), weights.values.to_numpy()
    edges, others = tokens.offsets.to_numpy(), weights.offsets.to_numpy()
    numbers = batch.column("values").to_pylist()
    for place, (document, unit, role) in enumerate(zip(*plain, strict=True)):
        row = ids[edges[place] : edges[place + 1]], marks[others[place] : others[place + 1]]
        yield Row(document, unit, role, *row, numbers[place])


# --- checking ---------------------------------------------------------------------------------------------------------


def verify(folder: Path) -> Iterator[Problem]:
    """Yields what is wrong: shards that are missing, counts unlike the manifest's, ids that no token has."""
    held = info(folder)
    for split, told in held.splits.items():
        found = _shards(folder, split)
        if [path.name for path in found] != [shard_name(split, i, len(found)) for i in range(len(found))] or not found:
            cause = f"its files are {', '.join(path.name for path in found) or 'missing'}"
            yield Problem(f"{folder}: split {split} is not whole", cause, "run the stage that makes it again")
            continue
        try:
            for cause in _unsound(held, told, rows(folder, split)):
                yield Problem(f"{folder}: split {split}", cause, "run the stage that makes it again")
        except UserError as error:
            yield from error.problems


def _unsound(held: RowsInfo, told: RowCount, found: Iterator[Row]) -> Iterator[str]:
    counted = {"units": 0, "sequences": 0, "tokens": 0}
    unit = -1
    for row in found:
        if row.unit not in (unit, unit + 1):
            yield f"unit {row.unit} follows unit {unit}"
            return
        counted["units"] += row.unit != unit
        unit = row.unit
        counted["sequences"] += 1
        counted["tokens"] += len(row.tokens) - 1
        if len(row.values) != len(held.values):
            yield f"{row.document!r} has {len(row.values)} values; {MANIFEST} names {len(held.values)}"
            return
        if not 0 <= int(row.tokens.min()) <= int(row.tokens.max()) < held.vocab_size:
            yield f"{row.document!r} has an id that is not in the vocabulary of {held.vocab_size:,}"
            return
        if not np.isfinite(row.weights).all():
            yield f"{row.document!r} has a weight that is not finite"
            return
    for name, number in counted.items():
        if number != getattr(told, name):
            yield f"it holds {number:,} {name}; {MANIFEST} says {getattr(told, name):,}"
