"""The artifact ``reference``: what a model thinks of every sequence that an objective makes of a corpus.

``train.parquet`` and ``validation.parquet`` hold, in the order of the corpus, one row a sequence: ``document`` (its
id), ``role`` within its unit, ``digest`` of the sequence's tokens and weights, and ``logprob``, the sum of weighted
natural log-probabilities (null where the sequence was longer than the model's context). ``reference.json`` says which
tokenizer encoded them and of which corpus they are.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lmgraft.errors import Problem, UserError

__all__ = ["MANIFEST", "SCHEMA", "ReferenceInfo", "Row", "digest", "info", "rows", "verify"]

MANIFEST = "reference.json"
SCHEMA = pa.schema(
    [("document", pa.string()), ("role", pa.int8()), ("digest", pa.binary(16)), ("logprob", pa.float64())]
)


@dataclass(frozen=True, slots=True)
class ReferenceInfo:
    fingerprint: str
    """Of the tokenizer that encoded the rows."""
    corpus: str
    """The corpus artifact's digest."""
    rows: dict[str, int]
    """Split -> rows."""

    def write(self, folder: Path) -> None:
        text = json.dumps(asdict(self), indent=1, sort_keys=True)
        (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Row:
    document: str
    role: int
    digest: bytes
    logprob: float | None


def digest(tokens: Any, weights: Any) -> bytes:
    """16 bytes that change whenever a token or a weight does."""
    whole = hashlib.blake2b(np.asarray(tokens, dtype="<i4").tobytes(), digest_size=16)
    whole.update(np.asarray(weights, dtype="<f4").tobytes())
    return whole.digest()


def info(folder: Path) -> ReferenceInfo:
    """:raises UserError: the manifest is missing or damaged."""
    path = folder / MANIFEST
    try:
        return ReferenceInfo(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(Problem(f"{path} cannot be read", str(error), "run the score stage again")) from error


def rows(folder: Path, split: str) -> Iterator[Row]:
    """The rows of a split in the order of the corpus, in bounded memory; none where the split is absent.

    :raises UserError: the file is damaged.
    """
    path = folder / f"{split}.parquet"
    if not path.is_file():
        return
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=8192):
                columns = [batch.column(name).to_pylist() for name in SCHEMA.names]
                yield from map(Row, *columns)
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise UserError(Problem(f"{path} cannot be read", str(error), "run the score stage again")) from error


def verify(folder: Path) -> Iterator[Problem]:
    """Yields what is wrong with the files: unreadable ones, counts unlike the manifest's, figures that are none."""
    for split, count in info(folder).rows.items():
        found = wrong = 0
        try:
            for row in rows(folder, split):
                found += 1
                wrong += row.logprob is not None and not math.isfinite(row.logprob)
        except UserError as error:
            yield from error.problems
            continue
        if found != count:
            cause = f"{MANIFEST} tells of {count}"
            yield Problem(f"{folder}: split {split} holds {found} rows", cause, "run the score stage again")
        if wrong:
            cause = f"{wrong} of them have a log-probability that is not finite"
            yield Problem(f"{folder}: split {split} holds {found} rows", cause, "score with a sound model")
