"""Which PDF files are read, and in which order."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator

from lmgraft.errors import Problem, UserError

from lmgraft_pdf.plugin import PdfConfig, is_glob

__all__ = ["find_files"]


def find_files(config: PdfConfig) -> list[tuple[str, str]]:
    """(id, path), sorted by id. Ids are relative to the path that a file was found under; with several paths, its
    number in the list comes first. A file that is found twice is read once. Raises UserError where there is none."""
    paths = config.paths()
    if not paths:
        fact, cause = "pdf.path is not set", "there is nothing to read"
        raise UserError(Problem(fact, cause, "set it to a file, a folder, a glob or a list of these"))
    chosen: dict[str, str] = {}
    for number, path in enumerate(paths):
        found = sorted(_below(path), key=lambda one: (one[0].count("/"), one[0]))
        if not found:
            cause = "no file there ends in .pdf" if os.path.exists(path) else "no file fits the pattern"
            fact = f"pdf.path: {path} has nothing to read"
            raise UserError(Problem(fact, cause, "name the file itself, or other files"))
        for name, file in found:
            chosen.setdefault(os.path.realpath(file), f"{number}/{name}" if len(paths) > 1 else name)
    return sorted((name, file) for file, name in chosen.items())


def _below(path: str) -> Iterator[tuple[str, str]]:
    if is_glob(path):
        root = _root(path)
        for match in glob.glob(path, recursive=True):
            name = os.path.relpath(match, root)
            if os.path.isfile(match):
                yield name.replace(os.sep, "/"), match
            else:
                yield from _walk(match, name)
    elif os.path.isdir(path):
        yield from _walk(path, "")
    elif os.path.isfile(path):
        yield os.path.basename(path), path


def _walk(folder: str, prefix: str) -> Iterator[tuple[str, str]]:
    for top, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and name.lower().endswith(".pdf"):
                path = os.path.join(top, name)
                yield os.path.join(prefix, os.path.relpath(path, folder)).replace(os.sep, "/"), path


def _root(pattern: str) -> str:
    """The folder above the first part that has a wildcard."""
    parts = pattern.replace(os.sep, "/").split("/")
    fixed = parts[: next(index for index, part in enumerate(parts) if any(c in part for c in "*?["))]
    return "/".join(fixed) or ("/" if fixed else ".")
