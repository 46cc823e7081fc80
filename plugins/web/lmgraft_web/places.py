"""From settings to files: paths, folders and globs, in an order that does not depend on the machine."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from lmgraft.errors import Problem, UserError

__all__ = ["check_paths", "entries", "find", "is_glob", "is_url", "refused_url", "shown"]


def entries(value: Any) -> list[str]:
    """A setting that is null, a path or a list of paths, as a list; ``~`` expanded."""
    found = value if isinstance(value, list | tuple) else [] if value is None else [value]
    return [os.path.expanduser(entry) if isinstance(entry, str) else entry for entry in found]


def is_url(path: str) -> bool:
    return path.lower().startswith(("http://", "https://"))


def shown(path: str) -> str:
    """A URL without its query, a password or a port that is none, all of which may be secrets; a path as it is."""
    scheme, mark, rest = path.partition("://")
    if not mark:
        return path
    host, slash, below = rest.partition("?")[0].partition("#")[0].partition("/")
    host = re.sub(r":[^\]:]*[^\]:\d][^\]:]*$", "", host.rpartition("@")[2])
    return f"{scheme}://{host}{slash}{below}"


def refused_url(url: str) -> tuple[str, str] | None:
    """Why an http(s) URL cannot be asked for, and what to do; None where it can."""
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        named = False
    if not named or not url.isprintable() or " " in url:
        return "it names no host, or its port is no number", "check the address"
    if "@" in parts.netloc:
        return "a name and password in an address are not sent", "take them out, or download the file first"
    return None


def is_glob(path: str) -> bool:
    """Whether ``path`` is a pattern; a file whose name really has a bracket in it is not."""
    return any(character in path for character in "*?[") and not os.path.exists(path)


def check_paths(part: str, value: Any, *, urls: bool, key: str = "path") -> Iterator[Problem | str]:
    """What is wrong with a setting of paths, before anything is read."""
    found = entries(value)
    if value is not None and not all(isinstance(entry, str) and entry for entry in found):
        yield f"{key} is {value!r}; expected a path as text, or a list of these"
        return
    if value is not None and not found:
        yield f"{key} is an empty list; name at least one file or folder, or set it to null"
    for path in found:
        if "://" in path and not (urls and is_url(path)):
            meant = "http:// and https:// are read" if urls else "only local files are read; download it first"
            yield Problem(f"{part}.{key}: {shown(path)} cannot be read", meant, "give such a URL, or a local path")
        elif is_url(path):
            if (why := refused_url(path)) is not None:
                yield Problem(f"{part}.{key}: {shown(path)} cannot be read", *why)
        elif not os.path.exists(path) and not is_glob(path):
            where = "" if os.path.isabs(path) else f" in {os.getcwd()}"
            cause = "there is neither a file nor a folder of that name" + where
            yield Problem(f"{part}.{key}: {path} does not exist", cause, "check the spelling, or give the full path")


def find(part: str, paths: list[str], fits: Callable[[str], bool], kinds: str) -> list[tuple[str, str]]:
    """(id, path) of every file, sorted by id. Ids are relative to the path that a file was found under; with several
    paths, its number in the list comes first. Of folders and globs those files count whose name ``fits``; a file
    that is named itself does in any case. One that is found twice is read once.

    Raises UserError where a path has nothing to read.
    """
    chosen: dict[str, str] = {}
    for number, path in enumerate(paths):
        found = sorted(_below(path, fits), key=lambda one: (one[0].count("/"), one[0]))
        if not found:
            cause = f"no file there ends in {kinds}" if os.path.exists(path) else "no file fits the pattern"
            remedy = "name the file itself, or other files"
            raise UserError(Problem(f"{part}.path: {path} has nothing to read", cause, remedy))
        for name, file in found:
            chosen.setdefault(os.path.realpath(file), f"{number}/{name}" if len(paths) > 1 else name)
    return sorted((name, file) for file, name in chosen.items())


def _below(path: str, fits: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    if is_glob(path):
        root = _root(path)
        for match in glob.glob(path, recursive=True):
            name = os.path.relpath(match, root)
            if os.path.isfile(match):
                yield _slashes(name), match
            else:
                yield from _walk(match, name, fits)
    elif os.path.isdir(path):
        yield from _walk(path, "", fits)
    elif os.path.isfile(path):
        yield os.path.basename(path), path


def _walk(folder: str, prefix: str, fits: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    for top, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and fits(name.lower()):
                path = os.path.join(top, name)
                yield _slashes(os.path.join(prefix, os.path.relpath(path, folder))), path


def _root(pattern: str) -> str:
    """The folder above the first part that has a wildcard."""
    parts = _slashes(pattern).split("/")
    fixed = parts[: next(index for index, part in enumerate(parts) if any(c in part for c in "*?["))]
    return "/".join(fixed) or ("/" if fixed else ".")


def _slashes(path: str) -> str:
    return path.replace(os.sep, "/")
