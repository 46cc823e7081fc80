"""From the setting ``path`` to units: which files are read, in which order, in which ranges."""

from __future__ import annotations

import functools
import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from lmgraft.errors import Problem, UserError
from lmgraft.seams.data_source import Unit
from lmgraft.unpacking import COMPRESSED

from lmgraft_files.formats import Format, compression, format_of, known_suffixes
from lmgraft_files.parquet import row_group_sizes
from lmgraft_files.plugin import FilesConfig, Rows, is_glob, missing
from lmgraft_files.saved import DICT, INFO, STATE, saved_files

__all__ = ["find_units", "group_of"]

#: Between a file's id and where its range starts. Kept out of group names, so that a file's ranges stay together.
RANGE = "@"


@dataclass(frozen=True, slots=True)
class _Found:
    """A file that is going to be read."""

    id: str
    path: str
    size: int
    explicit: bool
    """The user named this very file (or its ending, in a glob), so that any ending is read."""
    split: bool = False
    """It is of the split that was chosen of a DatasetDict."""


def find_units(config: FilesConfig) -> list[Unit]:
    """All units, sorted by file id and start.

    Ids are relative to the path they were found under; with several paths, its number in the list comes first.
    Raises UserError where a path is missing, a folder has nothing to read or a named file is empty.
    """
    paths = config.paths()
    if not paths:
        problem = Problem(
            "files.path is not set", "there is nothing to read", "set it to a file, a folder, a glob or a list of these"
        )
        raise UserError(problem)
    real = functools.cache(os.path.realpath)
    chosen: dict[str, _Found] = {}
    for number, path in enumerate(paths):
        # A file found twice (paths that overlap, a link to a folder above) is read once, under its shortest name.
        for found in sorted(_readable(path, config), key=lambda found: (found.id.count("/"), found.id)):
            name = f"{number}/{found.id}" if len(paths) > 1 else found.id
            folder, file = os.path.split(found.path)
            chosen.setdefault(os.path.join(real(folder), file), replace(found, id=name))
    if config.split is not None and not any(found.split for found in chosen.values()):
        cause = "only folders that DatasetDict.save_to_disk wrote have splits, and none was found"
        raise UserError(Problem(f"files.split={config.split} chooses nothing", cause, "files.split=null"))
    units = [unit for path, found in chosen.items() for unit in _ranges(path, found, config)]
    return sorted(units, key=lambda unit: (group_of(unit), unit.start))


def group_of(unit: Unit) -> str:
    """The file's id, without the range."""
    return unit.id if unit.end is None else unit.id.rpartition(RANGE)[0]


def _readable(path: str, config: FilesConfig) -> list[_Found]:
    found = list(_candidates(path, config.split))
    if not found:
        raise UserError(_nothing(path, config))
    if os.path.isfile(path):
        _check_named_file(found[0], config)
        return found
    text = config.rows is Rows.text
    known = [file for file in found if (file.explicit and text) or format_of(file.path, config) is not None]
    filled = [file for file in known if file.size]
    if not filled:
        raise UserError(_nothing(path, config, empty=len(known)))
    return filled


def _candidates(path: str, split: str | None) -> Iterator[_Found]:
    if is_glob(path):
        root = _root_of_glob(path)
        for match in glob.glob(path, recursive=True):
            for found in _below(match, os.path.relpath(match, root), split):
                yield replace(found, explicit=_named_by(path, found.path))
    elif os.path.isdir(path):
        yield from _below(path, "", split)
    elif os.path.isfile(path):
        yield _Found(os.path.basename(path), path, os.path.getsize(path), explicit=True)
    else:
        raise UserError(missing(path))


def _below(path: str, name: str, split: str | None) -> Iterator[_Found]:
    """The file ``path``, or all files below the folder; hidden ones are left out, links followed unless they loop."""
    if os.path.isfile(path):
        yield _Found(name.replace(os.sep, "/"), path, os.path.getsize(path), explicit=False)
        return
    pending, seen = [(path, name)], set()
    while pending:
        folder, prefix = pending.pop()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        with os.scandir(folder) as listing:
            entries = [entry for entry in listing if not entry.name.startswith(".")]
        names = {entry.name for entry in entries}
        saved = saved_files(folder, names, split)
        if saved is not None:
            yield from _saved(folder, prefix, *saved)
            continue
        for entry in entries:
            child = os.path.join(prefix, entry.name) if prefix else entry.name
            if entry.is_dir():
                pending.append((entry.path, child))
            elif entry.is_file() and not _describes(entry.name, names):
                yield _Found(child.replace(os.sep, "/"), entry.path, entry.stat().st_size, explicit=False)


def _saved(folder: str, prefix: str, names: Iterable[str], split: bool) -> Iterator[_Found]:
    for name in names:
        path, child = os.path.join(folder, name), os.path.join(prefix, name) if prefix else name
        yield _Found(child.replace(os.sep, "/"), path, os.path.getsize(path), explicit=False, split=split)


def _describes(name: str, names: set[str]) -> bool:
    """Whether a file speaks of Arrow files beside it, as in the cache of ``datasets``, and holds no rows."""
    return name in (DICT, INFO, STATE) and any(other.endswith(".arrow") for other in names)


def _root_of_glob(pattern: str) -> str:
    """The folder above the first part that has a wildcard."""
    parts = pattern.replace(os.sep, "/").split("/")
    fixed = parts[: next(index for index, part in enumerate(parts) if any(c in part for c in "*?["))]
    return "/".join(fixed) or ("/" if len(fixed) else ".")


def _named_by(pattern: str, path: str) -> bool:
    """``*.log`` names log files on purpose; ``*`` and ``x*`` do not."""
    suffix = os.path.splitext(path)[1]
    return bool(suffix) and pattern.endswith(suffix)


def _ranges(path: str, found: _Found, config: FilesConfig) -> Iterator[Unit]:
    kind = format_of(path, config) or Format.text
    step = config.range_bytes
    ranges: list[tuple[int, int, int]] = []
    if kind is Format.parquet and found.size > step:
        ranges = _groups(row_group_sizes(path), step)
    elif kind in (Format.text, Format.lines) and not compression(path):
        starts = range(0, found.size, step)
        ranges = [(start, min(start + step, found.size), min(step, found.size - start)) for start in starts]
    if len(ranges) < 2:
        yield Unit(id=found.id, path=path, size=found.size)
        return
    for start, end, size in ranges:
        yield Unit(id=f"{found.id}{RANGE}{start}", path=path, start=start, end=end, size=size)


def _groups(sizes: list[int], step: int) -> list[tuple[int, int, int]]:
    """(first, stop, bytes) of runs of row groups, each of so many bytes or of a single group."""
    found: list[tuple[int, int, int]] = []
    for number, size in enumerate(sizes):
        if found and found[-1][2] + size <= step:
            found[-1] = (found[-1][0], number + 1, found[-1][2] + size)
        else:
            found.append((number, number + 1, size))
    return found


def _check_named_file(found: _Found, config: FilesConfig) -> None:
    if found.size == 0:
        problem = Problem(f"files.path: {found.path} is empty", "it holds 0 bytes", "name a file with something in it")
        raise UserError(problem)
    if config.rows is not Rows.text and format_of(found.path, config) is None:
        problem = Problem(
            f"files.path: {found.path} holds no rows, as far as its name tells",
            f"files.rows={config.rows.value} reads {', '.join(known_suffixes(config))}",
            "name a file of rows, or set files.rows=text",
        )
        raise UserError(problem)


def _nothing(path: str, config: FilesConfig, empty: int = 0) -> Problem:
    suffixes = ", ".join(known_suffixes(config))
    if empty:
        return Problem(
            f"files.path: {path} holds only empty files", f"all {empty} that match have 0 bytes", "name other files"
        )
    if is_glob(path):
        return Problem(
            f"files.path: {path} matches nothing to read",
            f"no file below {os.path.abspath(_root_of_glob(path))} fits the pattern and ends in {suffixes}",
            "check the pattern (** goes into folders), or add the ending to files.suffixes",
        )
    return Problem(
        f"files.path: {path} holds nothing to read",
        f"no file in it or below it ends in {suffixes} (or one of these and {', '.join(COMPRESSED)})",
        "name another folder, or add the ending to files.suffixes, as in files.suffixes=[.log]",
    )
