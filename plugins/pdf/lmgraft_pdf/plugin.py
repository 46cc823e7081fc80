"""The light half of ``pdf``: its settings and where its class lies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from lmgraft.component import Component, ComponentConfig, execution
from lmgraft.errors import Problem
from lmgraft.hookspecs import hookimpl

__all__ = ["PdfConfig", "PdfUnit", "is_glob", "lmgraft_data_source"]


class PdfUnit(Enum):
    """What a document is."""

    file = "file"
    page = "page"


@dataclass
class PdfConfig(ComponentConfig):
    """The text of PDF files, read by PDFium in a process of its own."""

    path: Any = execution(None)
    """A file, a folder (read with all below it), a glob, or a list of these; null reads nothing."""
    unit: PdfUnit = PdfUnit.file
    """``file``: a document a file; ``page``: a document a page that has text."""
    separator: str = "\n\n"
    """What stands between the pages of a file; "\\f" is the form feed of other tools."""
    join_hyphens: bool = True
    """Join words that a line end has parted: without a hyphen between two small letters, with one elsewhere. False
    leaves hyphen and line end."""
    max_pages: int = 5_000
    """A file with more pages counts as damaged (``too_long``)."""
    file_bytes: int = 256 << 20
    """A file above this counts as damaged (``too_long``) and is not opened."""
    seconds: int = 120
    """A file that takes PDFium longer counts as damaged (``too_slow``)."""
    memory_mb: int = 2_048
    """A file for which PDFium wants more memory counts as damaged (``too_large``). Not watched on Windows and macOS."""

    def provides(self) -> frozenset[str]:
        return frozenset({"columns:text"})

    def ready(self) -> bool:
        return self.path is not None

    def paths(self) -> list[str]:
        """``path`` as a list, ``~`` expanded."""
        entries = self.path if isinstance(self.path, list | tuple) else [] if self.path is None else [self.path]
        return [os.path.expanduser(entry) for entry in entries]

    def check(self) -> Iterator[Problem | str]:
        yield from self._check_path()
        for name, least in (("max_pages", 1), ("file_bytes", 1024), ("seconds", 1), ("memory_mb", 256)):
            if getattr(self, name) < least:
                yield f"{name} is {getattr(self, name)}; it must be at least {least}"

    def _check_path(self) -> Iterator[Problem | str]:
        entries = self.path if isinstance(self.path, list | tuple) else [self.path]
        if self.path is not None and not all(isinstance(entry, str) and entry for entry in entries):
            yield f"path is {self.path!r}; expected a file, a folder or a glob as text, or a list of these"
            return
        if not entries:
            yield "path is an empty list; name at least one file or folder, or set it to null"
        for path in self.paths():
            if not os.path.exists(path) and not is_glob(path):
                where = "" if os.path.isabs(path) else f" in {os.getcwd()}"
                cause = "there is neither a file nor a folder of that name" + where
                yield Problem(f"pdf.path: {path} does not exist", cause, "check the spelling, or give the full path")


def is_glob(path: str) -> bool:
    """Whether ``path`` is a pattern; a file whose name really has a bracket in it is not."""
    return any(character in path for character in "*?[") and not os.path.exists(path)


@hookimpl
def lmgraft_data_source() -> list[Component[Any]]:
    return [
        Component(
            name="pdf",
            target="lmgraft_pdf.source:Pdf",
            config=PdfConfig,
            summary="The text of PDF files, a document a file or a page",
            requires=("pypdfium2>=5.0",),
        )
    ]
