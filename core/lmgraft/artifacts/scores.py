"""The artifact ``scores``: ``scores.json`` and ``samples.json``, written the same way every time.

Both are lists of flat records, so that a table, a tracker or a notebook reads them without knowing lmgraft. Keys are
sorted and floats are written with ``repr`` (the shortest text that reads back as the same number); JSON has no word
for numbers that are not finite, so those are the strings ``"Infinity"``, ``"-Infinity"`` and ``"NaN"``.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lmgraft.errors import Problem, UserError

__all__ = ["SAMPLES", "SCORES", "SampleRow", "ScoreRow", "read", "read_samples", "verify", "write", "write_rows"]

SCORES = "scores.json"
SAMPLES = "samples.json"

R = TypeVar("R", "ScoreRow", "SampleRow")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """One figure of one model."""

    stage: str
    """The stage that made the model."""
    evaluator: str
    name: str
    value: float
    unit: str = ""
    reference: bool = False
    """True for a figure beside the model's, such as gzip's on the same text."""
    higher_is_better: bool = True
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRow:
    """What one model wrote after one prompt."""

    stage: str
    prompt: str
    text: str
    """What follows the prompt."""
    finished: bool
    """True where the model ended the text, False where the limit did."""
    longest_copy: int | None = None
    """Characters of the longest span of ``text`` that stands in the training documents; None where not looked up."""


def write(folder: Path, scores: Sequence[ScoreRow], samples: Sequence[SampleRow]) -> None:
    """Writes both files into ``folder``, in the order given."""
    write_rows(folder / SCORES, scores)
    write_rows(folder / SAMPLES, samples)


def write_rows(path: Path, rows: Sequence[ScoreRow] | Sequence[SampleRow]) -> None:
    """One of the two files, whole or not at all: a reader never sees half of it."""
    records = [_plain(dataclasses.asdict(row)) for row in rows]
    partial = path.with_name(path.name + ".partial")
    text = json.dumps(records, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    partial.write_text(text + "\n", encoding="utf-8", errors="surrogatepass", newline="\n")
    os.replace(partial, path)


def read(path: Path) -> list[ScoreRow]:
    """The rows of a ``scores.json`` (``path`` is the file or its folder). Raises UserError where it is malformed."""
    return _read(path / SCORES if path.is_dir() else path, ScoreRow)


def read_samples(path: Path) -> list[SampleRow]:
    """The rows of a ``samples.json`` (``path`` is the file or its folder). Raises UserError where it is malformed."""
    return _read(path / SAMPLES if path.is_dir() else path, SampleRow)


def verify(folder: Path) -> Iterator[Problem]:
    """Every problem of an artifact folder; nothing where it is sound."""
    for load in (read, read_samples):
        try:
            load(folder)
        except UserError as error:
            yield from error.problems


def _plain(value: Any) -> Any:
    """JSON values only: numbers that are not finite become strings, tuples lists, and keys text."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _read(path: Path, row: type[R]) -> list[R]:
    try:
        records = json.loads(path.read_text(encoding="utf-8", errors="surrogatepass"))
    except OSError as error:
        raise _malformed(path, error.strerror or str(error)) from error
    except ValueError as error:
        raise _malformed(path, f"it is no JSON: {error}") from error
    if not isinstance(records, list):
        raise _malformed(path, f"it holds {type(records).__name__}, not a list of records")
    return [_row(path, number, record, row) for number, record in enumerate(records, 1)]


def _row(path: Path, number: int, record: Any, row: type[R]) -> R:
    if not isinstance(record, dict):
        raise _malformed(path, f"record {number} is {type(record).__name__}, not an object")
    values = dict(record)
    try:
        if row is ScoreRow:
            values["value"] = float(values["value"])  # reads "NaN" and "Infinity" too
        return row(**values)
    except KeyError as error:
        raise _malformed(path, f"record {number} lacks the key {error}") from error
    except (TypeError, ValueError) as error:
        known = ", ".join(spec.name for spec in dataclasses.fields(row))
        raise _malformed(path, f"record {number}: {error}; the keys are {known}") from error


def _malformed(path: Path, cause: str) -> UserError:
    return UserError(Problem(f"{path} cannot be read", cause, "run the evaluate stage again: lmgraft store verify"))
