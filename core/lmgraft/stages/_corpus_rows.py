"""Rows of the files that a filter learns from: JSON Lines, CSV or Parquet, compressed or not, one file or a folder."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import IO, Any

from lmgraft.errors import Problem, UserError

__all__ = ["rows"]

SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")


def rows(path: Path) -> Iterator[Mapping[str, Any]]:
    """Every row, files in the order of their names. Raises :class:`UserError` naming the file and the line."""
    if not path.exists():
        raise UserError(Problem(f"{path} is missing", "a filter learns from it", "check the filter's paths"))
    files = sorted(entry for entry in path.rglob("*") if entry.is_file()) if path.is_dir() else [path]
    for file in files:
        yield from _rows_of(file)


def _rows_of(path: Path) -> Iterator[Mapping[str, Any]]:
    plain = path.with_suffix("") if path.suffix in (".gz", ".zst") else path
    if plain.suffix not in SUFFIXES:
        raise UserError(Problem(f"{path} is no table", f"its name ends in {plain.suffix!r}", f"one of {SUFFIXES}"))
    if plain.suffix == ".parquet":
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                yield from batch.to_pylist()
        return
    with closing(_open(path)) as file:
        if plain.suffix in (".csv", ".tsv"):
            yield from csv.DictReader(file, delimiter="\t" if plain.suffix == ".tsv" else ",")
        else:
            yield from _json_rows(path, file)


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    if path.suffix == ".zst":
        import zstandard

        return io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(path.open("rb")), "utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _json_rows(path: Path, file: IO[str]) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(Problem(f"{path}, line {number} is not JSON", str(error), "mend or remove it")) from error
        if not isinstance(row, dict):
            raise UserError(Problem(f"{path}, line {number} is no object", f"it is {line.strip()[:40]}", "mend it"))
        yield row
