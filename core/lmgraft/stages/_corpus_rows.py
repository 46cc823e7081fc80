"""Rows of the files that a filter learns from: JSON Lines, CSV or Parquet, compressed or not, one file or a folder.

A filter learns from all of them or not at all: what is broken ends the stage, whatever its setting ``corrupt`` says.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import IO, Any, cast

from lmgraft.errors import Problem, UserError
from lmgraft.unpacking import COMPRESSED, Corrupt, ZipBomb, unpacked

__all__ = ["rows"]

SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
FIELD_BYTES = 64 << 20
EXPANSION = 200
"""A compressed file that gives more than 64 MiB and more than so many times its own bytes is no table of labels."""


def rows(path: Path) -> Iterator[Mapping[str, Any]]:
    """Every row, files in the order of their names. Raises :class:`UserError` naming the file and the line."""
    if not path.exists():
        raise UserError(Problem(f"{path} is missing", "a filter learns from it", "check the filter's paths"))
    files = sorted(entry for entry in path.rglob("*") if entry.is_file()) if path.is_dir() else [path]
    for file in files:
        yield from _rows_of(file)


def _rows_of(path: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow as pa

    plain = path.with_suffix("") if path.suffix in COMPRESSED else path
    if plain.suffix not in SUFFIXES:
        raise UserError(Problem(f"{path} is no table", f"its name ends in {plain.suffix!r}", f"one of {SUFFIXES}"))
    found = _parquet_rows(path) if plain.suffix == ".parquet" else _text_rows(path, plain.suffix)
    try:
        yield from found
    except (Corrupt, ZipBomb, UnicodeDecodeError, csv.Error, pa.ArrowException, OSError) as error:
        fact = f"{path} cannot be read, and a filter learns from it"
        raise UserError(Problem(fact, str(error), "mend it, or fetch or make it again")) from error


def _parquet_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=1024):
            yield from batch.to_pylist()


def _text_rows(path: Path, suffix: str) -> Iterator[Mapping[str, Any]]:
    with closing(_open(path)) as file:
        if suffix in (".csv", ".tsv"):
            csv.field_size_limit(max(csv.field_size_limit(), FIELD_BYTES))
            yield from csv.DictReader(file, delimiter="\t" if suffix == ".tsv" else ",")
        else:
            yield from _json_rows(path, file)


def _open(path: Path) -> IO[str]:
    if path.suffix not in COMPRESSED:
        return path.open(encoding="utf-8-sig", newline="")
    stream = cast("IO[bytes]", unpacked(str(path), path.suffix, EXPANSION))
    return io.TextIOWrapper(stream, "utf-8-sig", newline="")


def _json_rows(path: Path, file: IO[str]) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(_lines(file), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(Problem(f"{path}, line {number} is not JSON", str(error), "mend or remove it")) from error
        if not isinstance(row, dict):
            raise UserError(Problem(f"{path}, line {number} is no object", f"it is {line.strip()[:40]}", "mend it"))
        yield row


def _lines(file: IO[str]) -> Iterator[str]:
    """Lines that end in ``\\n``; with newline="" a lone ``\\r`` would end one as well."""
    held = ""
    for piece in file:
        held += piece
        if piece.endswith("\n"):
            yield held
            held = ""
    if held:
        yield held
