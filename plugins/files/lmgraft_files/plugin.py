"""The light half of ``files``: its settings and where its class lies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from lmgraft.component import Component, ComponentConfig, execution
from lmgraft.errors import Problem
from lmgraft.hookspecs import hookimpl

__all__ = ["KEYS", "FilesConfig", "Rows", "is_glob", "lmgraft_data_source"]


class Rows(Enum):
    """What a row of a JSONL, JSON or Parquet file is read as."""

    text = "text"
    messages = "messages"
    alpaca = "alpaca"
    sharegpt = "sharegpt"
    pairs = "pairs"
    hh = "hh"


#: The keys of each kind of row, by our names; those that end in ? may be missing. Pairs need a prompt
#: unless their answers are whole conversations, which hold it.
KEYS = {
    Rows.text: ("text",),
    Rows.messages: ("messages", "system?"),
    Rows.alpaca: ("instruction", "input?", "output", "system?", "history?"),
    Rows.sharegpt: ("conversations", "system?"),
    Rows.pairs: ("prompt?", "chosen", "rejected", "system?"),
    Rows.hh: ("chosen", "rejected"),
}
_COLUMNS = {
    Rows.text: frozenset({"columns:text"}),
    Rows.messages: frozenset({"columns:messages"}),
    Rows.alpaca: frozenset({"columns:messages"}),
    Rows.sharegpt: frozenset({"columns:messages"}),
    Rows.pairs: frozenset({"columns:prompt", "columns:chosen", "columns:rejected"}),
    Rows.hh: frozenset({"columns:prompt", "columns:chosen", "columns:rejected"}),
}


@dataclass
class FilesConfig(ComponentConfig):
    """Local files: plain text, JSONL, JSON and Parquet."""

    path: Any = execution(None)
    """A file, a folder (read with all below it), a glob (``data/**/*.txt``), or a list of these; null reads nothing."""
    rows: Rows = Rows.text
    """``text``: the column named by ``text``. Chats: ``messages`` (role and content), ``alpaca`` (instruction, input,
    output), ``sharegpt`` (conversations of from and value). Preferences: ``pairs`` (prompt, chosen, rejected; each a
    text, or messages), ``hh`` (transcripts of Human and Assistant)."""
    columns: dict[str, str] = field(default_factory=dict)
    """Where a row keeps its fields under other keys: ``{prompt: question, chosen: response_j}``; ``a.b`` reaches into
    objects."""
    text: str = "text"
    """The key that holds the text of a row; ``a.b`` reaches into objects."""
    group: str | None = None
    """The key whose value says which rows belong together when some are held out; null: each row is by itself."""
    suffixes: list[str] = field(default_factory=list)
    """More file name endings to read as plain text, as in ``[.py, .c]``."""
    document_bytes: int = 1 << 20
    """A text file above this is cut at blank lines into documents of at most so many bytes."""
    range_bytes: int = 64 << 20
    """Uncompressed text and JSONL files above this are handed to workers in ranges of so many bytes."""

    def provides(self) -> frozenset[str]:
        return _COLUMNS[self.rows]

    def ready(self) -> bool:
        return self.path is not None

    def paths(self) -> list[str]:
        """``path`` as a list, ``~`` expanded."""
        entries = self.path if isinstance(self.path, list | tuple) else [] if self.path is None else [self.path]
        return [os.path.expanduser(entry) for entry in entries]

    def check(self) -> Iterator[Problem | str]:
        yield from self._check_path()
        if not self.text:
            yield "text is empty; it names the key that holds the text of a row"
        names = [name.rstrip("?") for name in KEYS[self.rows]]
        for name, key in self.columns.items():
            if name not in names or self.rows is Rows.text:
                known = "set files.text" if self.rows is Rows.text else f"it has {', '.join(names)}"
                yield f"columns names {name!r}, which rows={self.rows.value} has not; {known}"
            elif not key:
                yield f"columns.{name} is empty; it names the key that holds it"
        if self.group == "":
            yield "group is empty; it names a key, or is null"
        for suffix in self.suffixes:
            if not suffix.strip(". "):
                yield f"suffixes holds {suffix!r}; expected file name endings, as in [.py, .c]"
        if self.document_bytes < 64:
            yield f"document_bytes is {self.document_bytes}; a document may take at least 64 bytes"
        if self.range_bytes < self.document_bytes:
            yield f"range_bytes is {self.range_bytes}; it must be at least document_bytes, {self.document_bytes}"

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
            summary="Local text, JSONL, JSON and Parquet files, also .gz and .zst",
        )
    ]
