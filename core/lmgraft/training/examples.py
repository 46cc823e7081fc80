"""Rows that an objective encodes itself: chats, preference pairs. One unit a document, one sequence or more a unit.

A corpus is encoded once into an Arrow file in the stage's work folder, which is mapped and not read: memory does not
grow with it. The order of units is a function of (seed, step), as the packed loader's is, so a run resumes at any step
and any number of ranks reads the same batches. Units are whole in every microbatch; sequences stand at the left,
padded at the right to the longest of their microbatch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from lmgraft.artifacts import corpus, reference
from lmgraft.errors import SHOWN, Fault, Problem, UserError
from lmgraft.seams.data_source import Document
from lmgraft.seams.objective import Batch, Example, Objective
from lmgraft.seams.stage import Progress
from lmgraft.seams.tokenizer import TextTokenizer
from lmgraft.training.loader import NOTHING, Ints, permute

__all__ = ["Encoded", "Encoding", "ExampleLoader", "Examples", "encode", "share"]

#: Units in one record batch of the file.
BLOCK = 1024

SCHEMA = pa.schema(
    [
        ("document", pa.string()),
        ("unit", pa.int64()),
        ("role", pa.int8()),
        ("tokens", pa.large_list(pa.int32())),
        ("weights", pa.large_list(pa.float32())),
        ("values", pa.list_(pa.float64())),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How a corpus becomes examples."""

    corpus: Path
    split: str
    objective: Objective
    tokenizer: TextTokenizer
    seq_len: int
    """The most predictions that a sequence may have."""
    stage: str
    """For messages."""
    refuse_overlong: bool = False
    reference: Path | None = None
    """The artifact that fills the value ``reference``."""
    scoring: bool = False
    """For a score stage: keeps overlong units, whose sequences it does not score, so that no row is missing."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """What came of it."""

    units: int
    sequences: int
    tokens: int
    """Predicted positions, padding apart."""
    overlong: int
    """Units left out because a sequence is longer than ``seq_len``."""
    empty: int
    """Documents that hold nothing to learn."""


def encode(how: Encoding, out: Path, progress: Callable[[str, int], AbstractContextManager[Progress]]) -> Encoded:
    """Writes ``out`` (``.arrow``) whole or not at all; where it is there already, only tells of it.

    :raises UserError: rows that the objective refuses, overlong ones where they are refused, a reference of other rows,
        or nothing left to train on.
    """
    if out.is_file():
        return _told(out)
    writer = _Writer(how, out)
    number = corpus.count(how.corpus, how.split)
    with progress(f"encoding {how.split} rows", number) as bar:
        for document in corpus.documents(how.corpus, how.split):
            writer.add(document)
            bar.advance()
    return writer.close()


class _Writer:
    def __init__(self, how: Encoding, out: Path) -> None:
        self.how, self.out = how, out
        self.names = sorted(getattr(how.objective, "values", frozenset)() if not how.scoring else ())
        self.partial = out.with_name(f"{out.name}.partial")
        self.rows: list[tuple[Any, ...]] = []
        self.refused: list[Problem] = []
        self.units = self.sequences = self.tokens = self.overlong = self.empty = self.bad = 0
        self.first_overlong = ""
        self.known = reference.rows(how.reference, how.split) if how.reference is not None else None
        self.sink = pa.OSFile(str(self.partial), "wb")
        self.writer = pa.ipc.new_file(self.sink, SCHEMA)

    def add(self, document: Document) -> None:
        try:
            examples = self.how.objective.encode(document, self.how.tokenizer)
        except UserError as error:
            self.bad += 1
            self.refused += error.problems if len(self.refused) < SHOWN else ()
            return
        if not examples:
            self.empty += 1
            return
        scores = [self._reference(document.id, example) for example in examples]
        long = max(len(example.tokens) - 1 for example in examples)
        if long > self.how.seq_len or None in scores:
            self.overlong += 1
            self.first_overlong = self.first_overlong or f"{document.id!r} ({long:,} tokens)"
            if not self.how.scoring:
                return
        for example, score in zip(examples, scores, strict=True):
            self._row(document.id, example, score)
        self.units += 1
        if self.units % BLOCK == 0:
            self._flush()

    def _row(self, name: str, example: Example, score: float | None) -> None:
        given = {**example.values, **({"reference": score} if self.known is not None else {})}
        lacking = [value for value in self.names if value not in given]
        if lacking:
            raise Fault(f"the objective reads {', '.join(lacking)} and its encode() does not give them")
        values = [given[value] for value in self.names]
        self.rows.append((name, self.units, example.role, example.tokens, example.weights, values))
        self.sequences += 1
        self.tokens += len(example.tokens) - 1

    def _reference(self, name: str, example: Example) -> float | None:
        """The reference's log-probability of this very sequence; its rows stand in the order of the corpus."""
        if self.known is None:
            return 0.0
        row = next(self.known, None)
        if row is None or (row.document, row.role) != (name, example.role):
            cause = "the reference holds " + ("no further row" if row is None else f"{row.document!r} there")
            remedy = "let the score stage and this one name the same corpus and the same objective"
            raise UserError(
                Problem(f"stage {self.how.stage}: row {name!r} is not in the reference's order", cause, remedy)
            )
        if row.digest != reference.digest(example.tokens, example.weights):
            cause = "the reference scored other tokens of it: another chat template or other settings of the objective"
            remedy = "give the objective of the score stage the same template as this stage's"
            raise UserError(
                Problem(f"stage {self.how.stage}: row {name!r} is encoded unlike the reference's", cause, remedy)
            )
        return row.logprob

    def _flush(self) -> None:
        if self.rows:
            columns = list(zip(*self.rows, strict=True))
            arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
            self.writer.write_batch(pa.record_batch(arrays, schema=SCHEMA))
            self.rows = []

    def close(self) -> Encoded:
        self._flush()
        self.writer.close()
        self.sink.close()
        problems = list(self._problems())[:SHOWN]
        if problems:
            self.partial.unlink()
            raise UserError(problems)
        told = Encoded(self.units, self.sequences, self.tokens, self.overlong, self.empty)
        fields = {name: getattr(told, name) for name in Encoded.__slots__}
        _notes(self.out).write_text(json.dumps({**fields, "values": self.names}), encoding="utf-8")
        self.partial.replace(self.out)
        return told

    def _problems(self) -> Iterator[Problem]:
        stage, split = self.how.stage, self.how.split
        if self.overlong and self.how.refuse_overlong:
            yield Problem(
                f"stage {stage}: {split} holds rows that are longer than seq_len={self.how.seq_len}: {self.overlong:,}",
                f"the first is {self.first_overlong}, and overlong=refuse",
                f"raise {stage}.seq_len, shorten the rows, or set {stage}.overlong=drop to leave them out",
            )
        elif not self.units and not self.refused:
            cause = (
                f"rows longer than {self.how.seq_len} tokens: {self.overlong:,}; with nothing to learn: {self.empty:,}"
            )
            remedy = f"give the corpus rows, or raise {stage}.seq_len"
            yield Problem(f"stage {stage}: split {split} gives no example", cause, remedy)
        # No more than are shown, or else the error's own "and 1 more" would hide how many rows it is about.
        if self.bad > SHOWN - 1:
            cause = "the objective cannot learn from them; the first ones follow"
            yield Problem(f"stage {stage}: {self.bad:,} rows of {split} are refused", cause, "mend or filter them")
        yield from self.refused


def _notes(path: Path) -> Path:
    return path.with_suffix(".json")


def _told(path: Path) -> Encoded:
    held = json.loads(_notes(path).read_text(encoding="utf-8"))
    return Encoded(**{name: held[name] for name in Encoded.__slots__})


class Examples:
    """An encoded file, mapped: sequences by number, units as ranges of sequences."""

    def __init__(self, path: Path, pad_id: int) -> None:
        self.pad_id = pad_id
        self.names: list[str] = json.loads(_notes(path).read_text(encoding="utf-8"))["values"]
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        self._blocks = table.to_batches()
        edges = np.cumsum([0, *(block.num_rows for block in self._blocks)])
        self._edges = edges
        units = table.column("unit").to_numpy()
        self.starts = np.concatenate([np.flatnonzero(np.diff(units, prepend=-1)), [len(units)]]).astype(np.int64)
        """(units + 1,) where the sequences of each unit begin."""
        self.roles = table.column("role").to_numpy()
        lengths = [np.diff(block.column("tokens").offsets.to_numpy()) for block in self._blocks]
        self.lengths = np.concatenate(lengths) if lengths else np.zeros(0, np.int64)
        """(sequences,) tokens of each, the first one included."""
        self._ends = np.cumsum(np.concatenate([[0], self.lengths - 1]))
        self._documents = table.column("document")

    def __len__(self) -> int:
        """Units."""
        return len(self.starts) - 1

    def document(self, sequence: int) -> str:
        return str(self._documents[sequence].as_py())

    def sequence(self, number: int) -> tuple[NDArray[np.int32], NDArray[np.float32], list[float]]:
        """(tokens, weights, values) of one sequence; views into the file."""
        index = int(np.searchsorted(self._edges, number, side="right")) - 1
        block, row = self._blocks[index], number - int(self._edges[index])
        return (
            *(_slice(block.column(name), row) for name in ("tokens", "weights")),
            block.column("values")[row].as_py(),
        )

    def unit_tokens(self, units: Ints) -> Ints:
        """Predicted positions of each unit."""
        whole: Ints = self._ends[self.starts[units + 1]] - self._ends[self.starts[units]]
        return whole

    def batch(self, units: Ints) -> Batch:
        """The sequences of ``units``, one after the other; :data:`NOTHING` gives a row of padding of no unit.

        ``Batch.unit`` counts within the batch: the same document may come twice where an epoch ends in it.
        """
        rows = [(place, number) for place, unit in enumerate(units.tolist()) for number in self._numbers(unit)]
        held = [self.sequence(number) if number != NOTHING else None for _, number in rows]
        width = max([len(row[0]) - 1 for row in held if row is not None], default=1)
        shape = (len(rows), width)
        tokens = np.full(shape, self.pad_id, np.int64)
        targets = np.full(shape, -1, np.int64)
        weights = np.zeros(shape, np.float32)
        segments = np.full(shape, -1, np.int64)
        for line, row in enumerate(held):
            if row is None:
                continue
            size = len(row[0]) - 1
            tokens[line, :size], targets[line, :size] = row[0][:-1], row[0][1:]
            weights[line, :size] = row[1][1:]
            segments[line, :size] = 0
        return Batch(
            tokens=torch.from_numpy(tokens),
            targets=torch.from_numpy(targets),
            weights=torch.from_numpy(weights),
            positions=torch.from_numpy(np.where(segments >= 0, np.arange(width), 0)),
            segments=torch.from_numpy(segments),
            unit=torch.tensor([place if number != NOTHING else -1 for place, number in rows]),
            role=torch.tensor([int(self.roles[number]) if number != NOTHING else 0 for _, number in rows]),
            values=self._values([row[2] if row is not None else None for row in held]),
        )

    def some(self, width: int, max_tokens: int) -> Iterator[Batch]:
        """Batches of ``width`` units spread evenly over the file, of about ``max_tokens`` predictions in all: the same
        ones each time."""
        total = int(self._ends[-1])
        count = max(1, min(len(self), len(self) * max_tokens // max(total, 1)))
        chosen = np.arange(count) * len(self) // count
        for start in range(0, count, width):
            yield self.batch(chosen[start : start + width])

    def _numbers(self, unit: int) -> list[int]:
        return [NOTHING] if unit == NOTHING else list(range(int(self.starts[unit]), int(self.starts[unit + 1])))

    def _values(self, rows: list[list[float] | None]) -> Mapping[str, torch.Tensor]:
        return {
            name: torch.tensor([row[index] if row is not None else 0.0 for row in rows], dtype=torch.float32)
            for index, name in enumerate(self.names)
        }


def _slice(column: Any, row: int) -> Any:
    offsets = column.offsets
    start, end = offsets[row].as_py(), offsets[row + 1].as_py()
    return column.values[start:end].to_numpy()


class ExampleLoader:
    """The batches of a run over rows: step s reads units ``s * batch .. (s + 1) * batch - 1`` of shuffled epochs."""

    def __init__(self, examples: Examples, batch: int, seed: int) -> None:
        self.examples = examples
        self.batch = batch
        self.seed = seed

    def units(self, step: int) -> Ints:
        """The units (batch,) of a step, over all ranks."""
        size = len(self.examples)
        epochs, places = np.divmod(step * self.batch + np.arange(self.batch), size)
        result = np.empty(self.batch, dtype=np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            result[here] = permute(places[here], size, self.seed, int(epoch))
        return result

    def tokens(self, step: int) -> int:
        """Predicted positions of a step, over all ranks, padding apart."""
        return int(self.examples.unit_tokens(self.units(step)).sum())

    def microbatches(self, step: int, rank: int = 0, size: int = 1, micro_batch: int | None = None) -> list[Batch]:
        """Rank r takes units r, r + size, ..., ``micro_batch`` (None: all) at a time, evened out with padding."""
        mine = share(self.units(step), rank, size)
        width = micro_batch or len(mine)
        return [self.examples.batch(mine[start : start + width]) for start in range(0, len(mine), width)]


def share(units: Ints, rank: int, size: int) -> Ints:
    """Every ``size``-th unit from ``rank`` on; all shares are equally long, evened out with :data:`NOTHING`."""
    mine = np.full(-(-len(units) // size), NOTHING, dtype=np.int64)
    own = units[rank::size]
    mine[: len(own)] = own
    return mine
