"""Rows laid out for one stage: an Arrow file in its work folder, which ranks map and do not read.

The rows come from a corpus, which the objective encodes here, or from a tokens stage that did so once (Parquet, which
cannot be mapped row by row). What is too long is left out or refused here, and a reference's log-probabilities are
joined, since both belong to the stage. Memory does not grow with the rows on the way in or on the way out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lmgraft.artifacts import corpus, examples, reference
from lmgraft.artifacts.examples import Row
from lmgraft.errors import SHOWN, Fault, Problem, UserError
from lmgraft.rows.refused import Refused
from lmgraft.seams.data_source import Document
from lmgraft.seams.objective import Objective
from lmgraft.seams.stage import Progress
from lmgraft.seams.tokenizer import TextTokenizer

__all__ = ["BLOCK", "SCHEMA", "Encoded", "Encoding", "encode", "notes"]

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
    """A corpus; or rows that a tokens stage encoded (:mod:`lmgraft.artifacts.examples`)."""
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
        held = json.loads(notes(out).read_text(encoding="utf-8"))
        return Encoded(**{name: held[name] for name in Encoded.__slots__})
    writer = _Writer(how, out)
    writer.read(progress)
    return writer.close()


def notes(path: Path) -> Path:
    """What is told of an Arrow file: the counts, and the names of its values."""
    return path.with_suffix(".json")


class _Writer:
    def __init__(self, how: Encoding, out: Path) -> None:
        self.how, self.out = how, out
        self.names = sorted(getattr(how.objective, "values", frozenset)() if not how.scoring else ())
        self.partial = out.with_name(f"{out.name}.partial")
        self.rows: list[Row] = []
        self.refused = Refused()
        self.units = self.sequences = self.tokens = self.overlong = self.empty = 0
        self.first_overlong = ""
        self.known = reference.rows(how.reference, how.split) if how.reference is not None else None
        self.sink = pa.OSFile(str(self.partial), "wb")
        self.writer = pa.ipc.new_file(self.sink, SCHEMA)

    def read(self, progress: Callable[[str, int], AbstractContextManager[Progress]]) -> None:
        """Takes in every unit of the split."""
        folder, split = self.how.corpus, self.how.split
        if not examples.is_rows(folder):
            with progress(f"encoding {split} rows", corpus.count(folder, split)) as bar:
                for document in corpus.documents(folder, split):
                    self._encode(document)
                    bar.advance()
            return
        told = examples.info(folder)
        self.empty = told.splits[split].empty
        with progress(f"laying out {split} rows", told.splits[split].units) as bar:
            for unit in examples.units(folder, split):
                self._add([(row, dict(zip(told.values, row.values, strict=True))) for row in unit])
                bar.advance()

    def _encode(self, document: Document) -> None:
        try:
            found = self.how.objective.encode(document, self.how.tokenizer)
        except UserError as error:
            self.refused.add(error)
            return
        if not found:
            self.empty += 1
            return
        arrays = [(np.asarray(one.tokens, np.int32), np.asarray(one.weights, np.float32)) for one in found]
        self._add(
            [
                (Row(document.id, self.units, one.role, *pair), one.values)
                for one, pair in zip(found, arrays, strict=True)
            ]
        )

    def _add(self, unit: Sequence[tuple[Row, Any]]) -> None:
        """The sequences of one unit, each with the values that came with it."""
        name = unit[0][0].document
        self._in_the_vocabulary(unit)
        scores = [self._reference(row) for row, _ in unit]
        long = max(len(row.tokens) - 1 for row, _ in unit)
        if long > self.how.seq_len or None in scores:
            self.overlong += 1
            self.first_overlong = self.first_overlong or f"{name!r} ({long:,} tokens)"
            if not self.how.scoring:
                return
        for (row, values), score in zip(unit, scores, strict=True):
            given = {**values, **({"reference": score} if self.known is not None else {})}
            lacking = [value for value in self.names if value not in given]
            if lacking:
                raise Fault(f"the objective reads {', '.join(lacking)} and its encode() does not give them")
            numbers = [given[value] for value in self.names]
            self.rows.append(Row(name, self.units, row.role, row.tokens, row.weights, numbers))
            self.sequences += 1
            self.tokens += len(row.tokens) - 1
        self.units += 1
        if self.units % BLOCK == 0:
            self._flush()

    def _in_the_vocabulary(self, unit: Sequence[tuple[Row, Any]]) -> None:
        """Rows that were encoded elsewhere may hold ids that the model has no embedding for."""
        size = self.how.tokenizer.vocab_size
        for row, _ in unit:
            tokens = row.tokens
            if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < size:
                index = int(tokens[(tokens < 0) | (tokens >= size)][0])
                fact = f"stage {self.how.stage}: row {row.document!r} holds id {index}"
                cause = f"the vocabulary has {size:,} tokens, ids 0 to {size - 1}, and the model a row for each of them"
                raise UserError(Problem(fact, cause, "run the stage that encoded the rows again"))

    def _reference(self, row: Row) -> float | None:
        """The reference's log-probability of this very sequence; its rows stand in the order of the corpus."""
        if self.known is None:
            return 0.0
        scored = next(self.known, None)
        if scored is None or (scored.document, scored.role) != (row.document, row.role):
            there = "no further row" if scored is None else f"{scored.document!r} there"
            cause = f"the reference holds {there}"
            remedy = "let the score stage and this one name the same corpus and the same objective"
            raise UserError(
                Problem(f"stage {self.how.stage}: row {row.document!r} is not in the reference's order", cause, remedy)
            )
        if scored.digest != reference.digest(row.tokens, row.weights):
            cause = "the reference scored other tokens of it: another chat template or other settings of the objective"
            remedy = "give the objective of the score stage the same template as this stage's"
            raise UserError(
                Problem(
                    f"stage {self.how.stage}: row {row.document!r} is encoded unlike the reference's", cause, remedy
                )
            )
        return scored.logprob

    def _flush(self) -> None:
        if self.rows:
            self.writer.write_batch(_batch(self.rows))
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
        notes(self.out).write_text(json.dumps({**fields, "values": self.names}), encoding="utf-8")
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
        elif not self.units and not self.refused.count:
            cause = (
                f"rows longer than {self.how.seq_len} tokens: {self.overlong:,}; with nothing to learn: {self.empty:,}"
            )
            remedy = f"give the corpus rows, or raise {stage}.seq_len"
            yield Problem(f"stage {stage}: split {split} gives no example", cause, remedy)
        yield from self.refused.problems(stage, split)


def _batch(held: Sequence[Row]) -> pa.RecordBatch:
    offsets = pa.array(np.concatenate([[0], np.cumsum([len(row.tokens) for row in held])]).astype(np.int64))
    columns = [
        pa.array([row.document for row in held], pa.string()),
        pa.array([row.unit for row in held], pa.int64()),
        pa.array([row.role for row in held], pa.int8()),
        pa.LargeListArray.from_arrays(offsets, pa.array(np.concatenate([row.tokens for row in held]), pa.int32())),
        pa.LargeListArray.from_arrays(offsets, pa.array(np.concatenate([row.weights for row in held]), pa.float32())),
        pa.array([list(row.values) for row in held], pa.list_(pa.float64())),
    ]
    return pa.record_batch(columns, schema=SCHEMA)
