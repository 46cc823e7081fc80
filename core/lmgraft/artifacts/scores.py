"""The artifact ``scores``: ``scores.json`` and ``samples.json``, written the same way every time.

Both are lists of flat records, so that a table, a tracker or a notebook reads them without knowing lmgraft. Keys are
sorted and floats are written with ``repr`` (the shortest text that reads back as the same number); JSON has no word
for numbers that are not finite, so those are the strings ``"Infinity"``, ``"-Infinity"`` and ``"NaN"``.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, cast

from lmgraft.errors import Problem, UserError

__all__ = ["SAMPLES", "SCORES", "SampleRow", "ScoreRow", "read", "read_samples", "verify", "write", "write_rows"]

SCORES = "scores.json"
SAMPLES = "samples.json"


class ScoreRow(TypedDict):
    """One figure of one model."""

    stage: str
    """The stage that made the model."""
    evaluator: str
    name: str
    value: float
    unit: str
    reference: bool
    """True for a figure beside the model's, such as gzip's on the same text."""
    higher_is_better: bool
    detail: Mapping[str, Any]


class SampleRow(TypedDict):
    """What one model wrote after one prompt."""

    stage: str
    prompt: str
    text: str
    """What follows the prompt."""
    finished: bool
    """True where the model ended the text, False where the limit did."""
    longest_copy: int | None
    """Characters of the longest span of ``text`` that stands in the training documents; None where not looked up."""


#: Key -> the types that its JSON value may have.
_SCORE_KEYS: Mapping[str, tuple[type, ...]] = {
    "stage": (str,),
    "evaluator": (str,),
    "name": (str,),
    "value": (float, int),
    "unit": (str,),
    "reference": (bool,),
    "higher_is_better": (bool,),
    "detail": (dict,),
}
_SAMPLE_KEYS: Mapping[str, tuple[type, ...]] = {
    "stage": (str,),
    "prompt": (str,),
    "text": (str,),
    "finished": (bool,),
    "longest_copy": (int, type(None)),
}


def write(folder: Path, scores: Sequence[ScoreRow], samples: Sequence[SampleRow]) -> None:
    """Writes both files into ``folder``, in the order given."""
    write_rows(folder / SCORES, scores)
    write_rows(folder / SAMPLES, samples)


def write_rows(path: Path, rows: Sequence[ScoreRow] | Sequence[SampleRow]) -> None:
    """One of the two files, whole or not at all: a reader never sees half of it."""
    partial = path.with_name(path.name + ".partial")
    text = json.dumps([_plain(row) for row in rows], sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    partial.write_text(text + "\n", encoding="utf-8", errors="surrogatepass", newline="\n")
    os.replace(partial, path)


def read(path: Path) -> list[ScoreRow]:
    """The rows of a ``scores.json`` (``path`` is the file or its folder). Raises UserError where it is malformed."""
    file = path / SCORES if path.is_dir() else path
    records = _read(file)
    for record in records:
        if isinstance(record.get("value"), str):
            record["value"] = _number(record["value"])
    return cast("list[ScoreRow]", _checked(file, records, _SCORE_KEYS))


def read_samples(path: Path) -> list[SampleRow]:
    """The rows of a ``samples.json`` (``path`` is the file or its folder). Raises UserError where it is malformed."""
    file = path / SAMPLES if path.is_dir() else path
    return cast("list[SampleRow]", _checked(file, _read(file), _SAMPLE_KEYS))


def verify(folder: Path) -> list[str]:
    """What is wrong with the two files in ``folder``; empty where nothing is."""
    problems: list[Problem] = []
    for load in (read, read_samples):
        try:
            load(folder)
        except UserError as error:
            problems += error.problems
    return [f"{problem.fact}: {problem.cause}" for problem in problems]


def _plain(value: Any) -> Any:
    """JSON values only: numbers that are not finite become strings, tuples lists, and keys text."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _number(text: str) -> float | str:
    """The numbers that :func:`_plain` wrote as words; any other word stays one and is refused."""
    return float(text) if text in ("NaN", "Infinity", "-Infinity") else text


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        records = json.loads(path.read_text(encoding="utf-8", errors="surrogatepass"))
    except OSError as error:
        raise _malformed(path, error.strerror or str(error)) from error
    except ValueError as error:
        raise _malformed(path, f"it is no JSON: {error}") from error
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise _malformed(path, "it holds no list of records")
    return records


def _checked(path: Path, records: list[dict[str, Any]], keys: Mapping[str, tuple[type, ...]]) -> list[dict[str, Any]]:
    for number, record in enumerate(records, 1):
        if record.keys() != keys.keys():
            found, wanted = ", ".join(sorted(record)), ", ".join(sorted(keys))
            raise _malformed(path, f"record {number} has the keys {found or 'none'}, not {wanted}")
        for key, types in keys.items():
            # A bool is an int to isinstance, and never one here.
            if not isinstance(record[key], types) or (isinstance(record[key], bool) and bool not in types):
                raise _malformed(path, f"record {number}: {key} is {record[key]!r}")
    return records


def _malformed(path: Path, cause: str) -> UserError:
    return UserError(Problem(f"{path} cannot be read", cause, "run the evaluate stage again: lmgraft store verify"))
