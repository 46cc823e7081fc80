"""The light half of ``files``: its settings and where its class lies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from lmgraft.component import Component, execution
from lmgraft.errors import Problem
from lmgraft.hookspecs import hookimpl
from lmgraft.rows.kinds import Rows, RowsConfig

__all__ = ["FilesConfig", "Rows", "is_glob", "lmgraft_data_source", "missing"]


@dataclass
class FilesConfig(RowsConfig):
    """Local files: plain text, JSONL, JSON, CSV, TSV, Parquet, Arrow and saved ``datasets`` folders."""

    source: ClassVar[str] = "files"

    path: Any = execution(None)
    """A file, a folder (read with all below it), a glob (``data/**/*.txt``), or a list of these; null reads nothing."""
    split: str | None = None
    """The split to read of a folder that ``DatasetDict.save_to_disk`` wrote; null where there is one only."""
    suffixes: list[str] = field(default_factory=list)
    """More file name endings to read as plain text, as in ``[.py, .c]``."""
    document_bytes: int = 1 << 20
    """A text file above this is cut at blank lines into documents of at most so many bytes."""
    range_bytes: int = 8 << 20
    """Uncompressed text, JSONL and Parquet files above this are handed to workers in ranges of so many bytes."""
    row_bytes: int = 64 << 20
    """A line of JSONL, a record of CSV or a row of a JSON list above this is damaged, so that memory is bounded."""
    expansion: int = 200
    """A compressed file that has given more than 64 MiB and more than so many times what was read of it is taken for a
    zip bomb and not read on."""
    delimiter: str | None = None
    """Between the fields of CSV and TSV; null takes a comma in ``.csv``, a tab in ``.tsv``."""
    quotes: bool = True
    """CSV and TSV: fields may stand in double quotes, as RFC 4180 has it; false takes quotes for text."""

    def ready(self) -> bool:
        return self.path is not None

    def paths(self) -> list[str]:
        """``path`` as a list, ``~`` expanded."""
        entries = self.path if isinstance(self.path, list | tuple) else [] if self.path is None else [self.path]
        return [os.path.expanduser(entry) for entry in entries]

    def check(self) -> Iterator[Problem | str]:
        yield from self._check_path()
        yield from self.check_rows()
        for suffix in self.suffixes:
            if not suffix.strip(". "):
                yield f"suffixes holds {suffix!r}; expected file name endings, as in [.py, .c]"
        if self.document_bytes < 64:
            yield f"document_bytes is {self.document_bytes}; a document may take at least 64 bytes"
        if self.range_bytes < self.document_bytes:
            yield f"range_bytes is {self.range_bytes}; it must be at least document_bytes, {self.document_bytes}"
        if self.row_bytes < 64:
            yield f"row_bytes is {self.row_bytes}; a row may take at least 64 bytes"
        if self.expansion < 2:
            yield f"expansion is {self.expansion}; it must be at least 2"
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            yield f"delimiter is {self.delimiter!r}; it is one character, neither a quote nor a line break"
        if self.split == "":
            yield "split is empty; it names a split, or is null"

    def _check_path(self) -> Iterator[Problem | str]:
        entries = self.path if isinstance(self.path, list | tuple) else [self.path]
        if self.path is not None and not all(isinstance(entry, str) and entry for entry in entries):
            yield f"path is {self.path!r}; expected a file, a folder or a glob as text, or a list of these"
            return
        if not entries:
            yield "path is an empty list; name at least one file or folder, or set it to null"
        for path in self.paths():
            if not os.path.exists(path) and not is_glob(path):
                yield missing(path)


def is_glob(path: str) -> bool:
    """Whether ``path`` is a pattern; a file whose name really has a bracket in it is not."""
    return any(character in path for character in "*?[") and not os.path.exists(path)


def missing(path: str) -> Problem:
    return Problem(
        f"files.path: {path} does not exist",
        "there is neither a file nor a folder of that name" + _relative(path),
        "check the spelling, or give the full path",
    )


def _relative(path: str) -> str:
    return "" if os.path.isabs(path) else f" in {os.getcwd()}"


@hookimpl
def lmgraft_data_source() -> list[Component[Any]]:
    return [
        Component(
            name="files",
            target="lmgraft_files.source:Files",
            config=FilesConfig,
            summary="Local text, JSONL, JSON, CSV, Parquet, Arrow; also .gz .zst .bz2 .xz",
            revision=2,
        )
    ]
