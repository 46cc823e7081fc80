"""The corpus under way: part files in the stage's scratch folder, each with a note of what it holds.

A part is an Arrow file and a JSON note. The note is renamed into place last, so where there is a note the part is
whole: a killed stage goes on from the parts it finds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lmgraft.artifacts import corpus
from lmgraft.stages._corpus_tally import Tally

__all__ = ["FORMS", "PART", "Part", "PartWriter", "as_part", "batches", "read_note", "write_atomically"]

#: Bits of the column ``form``: which content columns a document fills.
FORMS = {"text": 1, "messages": 2, "prompt": 4, "chosen": 8, "rejected": 16, corpus.EXTRA: 32}
PART = pa.schema([*corpus.SCHEMA, ("size", pa.int64()), ("characters", pa.int64()), ("form", pa.int8())])


@dataclass
class Part:
    """What a part file holds."""

    name: str
    source: str
    rows: int = 0
    bytes: int = 0
    read: dict[str, int] = field(default_factory=dict)
    """``documents``, ``bytes`` and ``repaired`` as the source gave them; empty for later parts."""
    tallies: list[Tally] = field(default_factory=list)
    damaged: dict[str, Any] = field(default_factory=dict)
    """What could not be read, as :class:`lmgraft.stages._corpus_damage.Damage` counts it; empty where all could."""


def as_part(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Adds (or renews) the columns that are derived from the content."""
    form = np.zeros(batch.num_rows, np.int8)
    for name, bit in FORMS.items():
        if name != corpus.EXTRA:
            form |= batch.column(name).is_valid().to_numpy(zero_copy_only=False) * np.int8(bit)
    if (form & FORMS["messages"]).any():
        form |= _has_extra(batch.column("messages")) * np.int8(FORMS[corpus.EXTRA])
    derived = [corpus.sizes(batch), corpus.sizes(batch, characters=True), form]
    columns = [batch.column(name) for name in corpus.SCHEMA.names]
    return pa.record_batch([*columns, *(pa.array(column) for column in derived)], schema=PART)


def _has_extra(messages: pa.Array) -> Any:
    filled = messages.flatten().field("extra").is_valid().to_numpy(zero_copy_only=False)
    found = np.zeros(len(messages), np.int8)
    found[pc.list_parent_indices(messages).to_numpy()[filled]] = 1
    return found


class PartWriter:
    """Writes a part; on leaving, the file and then its note are renamed into place."""

    def __init__(self, folder: Path, part: Part) -> None:
        self.part = part
        self._path = folder / f"{part.name}.arrow"
        self._unfinished = _beside(self._path)
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        self._writer = pa.ipc.new_file(str(self._unfinished), PART, options=options)

    def write(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows:
            self._writer.write_batch(batch)
            self.part.rows += batch.num_rows
            self.part.bytes += pc.sum(batch.column("size")).as_py()

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        if kind is not None:
            self._unfinished.unlink(missing_ok=True)
            return
        self._unfinished.replace(self._path)
        note = {**asdict(self.part), "tallies": [tally.as_json() for tally in self.part.tallies]}
        write_atomically(self._path.with_suffix(".json"), json.dumps(note))


def read_note(folder: Path, name: str) -> Part | None:
    """The note of a finished part, or None where it has yet to be made."""
    try:
        note = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Part(**{**note, "tallies": [Tally.from_json(row) for row in note["tallies"]]})


def batches(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The batches of a part file, with these columns only (what is not read is not decompressed)."""
    chosen = None if columns is None else [PART.names.index(name) for name in columns]
    options = pa.ipc.IpcReadOptions(included_fields=chosen, use_threads=False)
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source, options=options) as reader:
        for i in range(reader.num_record_batches):
            yield reader.get_batch(i)


def write_atomically(path: Path, text: str) -> None:
    unfinished = _beside(path)
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def _beside(path: Path) -> Path:
    # The process id keeps a worker that outlives its parent for a moment away from its successor's file.
    return path.with_name(f".{path.name}.{os.getpid()}")
