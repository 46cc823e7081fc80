"""The verdicts of a corpus-wise filter: in any order from the filter, by position and part to whoever applies them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa

from lmgraft.errors import Fault
from lmgraft.seams.filter import Verdict
from lmgraft.spool import Spool
from lmgraft.stages._corpus_parts import Part
from lmgraft.stages._corpus_tally import sound

__all__ = ["store", "verdicts_of"]

VERDICT = pa.schema(
    [
        ("position", pa.int64()),
        ("keep", pa.bool_()),
        ("reason", pa.string()),
        ("text", pa.string()),
        ("cuts", pa.list_(pa.int64())),
        ("counts", pa.map_(pa.string(), pa.int64())),
        ("note", pa.string()),
    ]
)
BATCH = 4096
BATCH_CHARACTERS = 4 << 20


def store(
    name: str,
    verdicts: Iterable[tuple[int, Verdict]],
    parts: Sequence[Part],
    folder: Path,
    memory_mb: int,
    alive: Callable[[], None],
) -> None:
    """Sorts the verdicts of filter ``name`` and writes them as one file a part, into ``folder``.

    A part without verdicts has no file. Raises :class:`Fault` for a position that no document has, or has twice.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    spool = Spool(folder / "spool", VERDICT, memory_mb)
    for batch in _batched(verdicts):
        spool.append(batch)
        alive()
    _by_part(name, spool, parts, folder, alive)
    shutil.rmtree(folder / "spool")


def _by_part(name: str, spool: Spool, parts: Sequence[Part], folder: Path, alive: Callable[[], None]) -> None:
    ends = np.cumsum([part.rows for part in parts])
    last, owner = -1, -1
    with ExitStack() as stack:
        for batch in spool.sort(["position"]).batches():
            positions = batch.column("position").to_numpy()
            _check(name, positions, last, int(ends[-1]))
            last = int(positions[-1])
            owners = np.searchsorted(ends, positions, side="right")
            for found in np.unique(owners).tolist():
                if found != owner:
                    owner = found
                    stack.close()
                    path = folder / f"{parts[owner].name}.arrow"
                    writer = stack.enter_context(pa.ipc.new_file(str(path), VERDICT))
                first, stop = np.searchsorted(owners, [owner, owner + 1]).tolist()
                writer.write_batch(batch.slice(first, stop - first))
            alive()


def _check(name: str, positions: np.ndarray[tuple[int], np.dtype[np.int64]], last: int, total: int) -> None:
    if positions[0] < 0 or positions[-1] >= total:
        wrong = int(positions[0] if positions[0] < 0 else positions[-1])
        raise Fault(f"filter {name!r} gave a verdict for position {wrong}; there are {total} documents")
    steps = np.diff(positions, prepend=last)
    if (steps == 0).any():
        twice = int(positions[int(np.argmin(steps))])
        raise Fault(f"filter {name!r} gave two verdicts for position {twice}; a document takes one")


def _batched(verdicts: Iterable[tuple[int, Verdict]]) -> Iterator[pa.RecordBatch]:
    rows: list[tuple[int, Verdict]] = []
    characters = 0
    for position, verdict in verdicts:
        rows.append((position, verdict))
        characters += len(verdict.text or "")
        if len(rows) == BATCH or characters > BATCH_CHARACTERS:
            yield _columns(rows)
            rows, characters = [], 0
    if rows:
        yield _columns(rows)


def _columns(rows: Sequence[tuple[int, Verdict]]) -> pa.RecordBatch:
    columns = [
        [position for position, _ in rows],
        [verdict.keep for _, verdict in rows],
        [verdict.reason for _, verdict in rows],
        [None if verdict.text is None else sound(verdict.text) for _, verdict in rows],
        [[bound for span in verdict.cuts for bound in span] for _, verdict in rows],
        [list(verdict.counts.items()) for _, verdict in rows],
        [sound(verdict.note) for _, verdict in rows],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, VERDICT, strict=True)]
    return pa.record_batch(arrays, schema=VERDICT)


def verdicts_of(path: Path) -> Iterator[tuple[int, Verdict]]:
    """A part's verdicts by position; nothing where there is no file."""
    if not path.exists():
        return
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        for i in range(reader.num_record_batches):
            for row in reader.get_batch(i).to_pylist():
                cuts = tuple(zip(row["cuts"][::2], row["cuts"][1::2], strict=True))
                counts = dict(row["counts"])
                yield row["position"], Verdict(row["keep"], row["reason"], row["text"], cuts, counts, row["note"])
