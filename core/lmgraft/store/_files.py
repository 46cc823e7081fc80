"""Small acts on files that hold after a crash: durable writes, exclusive moves, thorough removal."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = [
    "exists",
    "files_under",
    "fsync",
    "fsync_tree",
    "has_files",
    "move_new",
    "names",
    "newest",
    "nonce",
    "read_json",
    "remove_tree",
    "size_of",
    "touched",
    "write_json",
]


def nonce() -> str:
    """A name that no other process picks."""
    return secrets.token_hex(8)


def exists(path: Path) -> bool:
    """As ``Path.exists``, but only "there is none" counts as absent: an error of the disk is raised."""
    return _lstat(path) is not None


def names(folder: Path) -> list[str]:
    """The sorted names in a folder; none where there is no such folder."""
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def fsync(path: Path) -> None:
    """Brings a file or a folder's entries to the disk itself."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:  # some filesystems know no fsync of folders
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)


def fsync_tree(folder: Path) -> None:
    for parent, _, files in os.walk(folder, topdown=False):
        for name in files:
            fsync(Path(parent, name))
        fsync(Path(parent))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes whole or not at all, a power cut included: a temporary file, fsync, rename, fsync of the folder."""
    temporary = path.with_name(f".{path.name}.{nonce()}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(json.dumps(value, indent=1, sort_keys=True).encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    fsync(path.parent)


def read_json(path: Path) -> dict[str, Any]:
    """ValueError where the file is not a JSON object; OSError where it cannot be read."""
    value = json.loads(path.read_bytes())
    if not isinstance(value, dict):
        raise ValueError(f"{path} does not hold a JSON object")
    return value


def move_new(source: Path, target: Path) -> bool:
    """Renames a folder to ``target``; False where a (non-empty) folder stands there already. Atomic both ways."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    fsync(target.parent)
    return True


def remove_tree(folder: Path) -> None:
    """Removes a tree, folders without write permission included; another process may be removing it too."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        shutil.rmtree(folder, ignore_errors=True)
    except PermissionError:
        for parent, _, _ in os.walk(folder):
            os.chmod(parent, stat.S_IRWXU)
            for entry in os.scandir(parent):
                if entry.is_dir(follow_symlinks=False):
                    os.chmod(entry.path, stat.S_IRWXU)
        shutil.rmtree(folder)


def files_under(folder: Path) -> Iterator[Path]:
    """Everything under a folder that is not a folder itself; nothing where there is no such folder."""
    for parent, folders, files in os.walk(folder, onerror=_unless_missing):
        for name in files:
            yield Path(parent, name)
        for name in folders:
            if os.path.islink(os.path.join(parent, name)):
                yield Path(parent, name)


def has_files(folder: Path) -> bool:
    return next(files_under(folder), None) is not None


def size_of(folder: Path) -> int:
    """Bytes of all files under a folder; what vanishes meanwhile counts nothing."""
    found = (_lstat(path) for path in files_under(folder))
    return sum(entry.st_size for entry in found if entry is not None)


def touched(path: Path) -> float:
    """The last modification of a file or a folder's own entries, seconds since the epoch; 0 where it is gone."""
    found = _lstat(path)
    return found.st_mtime if found is not None else 0.0


def newest(folder: Path) -> float:
    """The latest modification of a folder or of anything in it, seconds since the epoch; 0 where it is gone."""
    latest = 0.0
    for parent, _, files in os.walk(folder):
        latest = max(latest, touched(Path(parent)), *(touched(Path(parent, name)) for name in files))
    return latest


def _unless_missing(error: OSError) -> None:
    # os.walk would pass over a folder that it may not list: half an artifact that looks whole.
    if not isinstance(error, FileNotFoundError):
        raise error


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
