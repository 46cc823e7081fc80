"""sha256 of input files, remembered by (path, size, mtime, inode).

Only a cache: where SQLite cannot lock, finds its file damaged, or may not write, files are simply read again. A row
carries a check of itself, for a damaged page of a database may well still parse.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lmgraft.errors import Problem, UserError
from lmgraft.store._digest import file_sha256

__all__ = ["FileDigests"]

#: A file that changed so shortly before it was read may change again within one tick of its clock (git's "racy").
RACY_NS = 2_000_000_000
_CHUNK = 500
_TABLE = """create table if not exists digest (
    path blob primary key, size integer, mtime integer, inode integer, sha256 text, guard blob
) without rowid"""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a file looked like; a file that looks the same is the same."""

    path: bytes
    size: int
    mtime: int
    inode: int

    def guard(self, digest: str) -> bytes:
        text = b"%s\0%d\0%d\0%d\0%s" % (self.path, self.size, self.mtime, self.inode, digest.encode())
        return hashlib.blake2b(text, digest_size=8).digest()


class FileDigests:
    """The cache in one SQLite file. Safe to use from several processes and threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()

    def digests(self, paths: Sequence[Path]) -> list[str]:
        """sha256 of each file, in order. UserError names every file that cannot be read."""
        seen = _look(paths)
        known = self._load(seen)
        missing = [i for i, file in enumerate(seen) if file.path not in known]
        if missing:
            started = time.time_ns()
            with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
                fresh = list(pool.map(_read, [paths[i] for i in missing]))
            known.update({file.path: digest for file, digest in fresh})
            self._save([(file, digest) for file, digest in fresh if file.mtime < started - RACY_NS])
        return [known[file.path] for file in seen]

    def _load(self, seen: Sequence[_Seen]) -> dict[bytes, str]:
        found: dict[bytes, str] = {}
        with self._quietly():
            connection = self._connection()
            for first in range(0, len(seen), _CHUNK):
                wanted = {file.path: file for file in seen[first : first + _CHUNK]}
                marks = ",".join("?" * len(wanted))
                rows = connection.execute(
                    f"select path, size, mtime, inode, sha256, guard from digest where path in ({marks})", list(wanted)
                )
                for path, size, mtime, inode, digest, guard in rows:
                    file = wanted.get(path)
                    if file == _Seen(path, size, mtime, inode) and file is not None and file.guard(digest) == guard:
                        found[path] = digest
        return found

    def _save(self, fresh: Sequence[tuple[_Seen, str]]) -> None:
        rows = [(file.path, file.size, file.mtime, file.inode, sha, file.guard(sha)) for file, sha in fresh]
        with self._quietly():
            connection = self._connection()
            with connection:
                connection.executemany("insert or replace into digest values (?, ?, ?, ?, ?, ?)", rows)

    def _connection(self) -> sqlite3.Connection:
        # A connection must not cross a fork.
        pid, connection = getattr(self._local, "held", (0, None))
        if connection is None or pid != os.getpid():
            connection = sqlite3.connect(self._path, timeout=5.0, check_same_thread=False)
            self._local.held = (os.getpid(), connection)
            # The rollback journal, not the write-ahead log: that one needs shared memory, which file servers lack.
            connection.execute("pragma synchronous = off")
            connection.execute(_TABLE)
        return connection

    @contextlib.contextmanager
    def _quietly(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            self._forget()
            # Locked, read-only, full, or no locks on this filesystem: another time. Anything else is damage.
            broken = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if isinstance(error, sqlite3.OperationalError) and broken != sqlite3.SQLITE_ERROR:
                return
            for name in (self._path, self._path.with_name(self._path.name + "-journal")):
                with contextlib.suppress(OSError):
                    name.unlink()

    def _forget(self) -> None:
        _, connection = getattr(self._local, "held", (0, None))
        self._local.held = (0, None)
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def _look(paths: Sequence[Path]) -> list[_Seen]:
    seen: list[_Seen] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            seen.append(_seen(path, os.stat(path)))
        except OSError as error:
            problems.append(_unreadable(path, error))
    if problems:
        raise UserError(problems)
    return seen


def _seen(path: Path, found: os.stat_result) -> _Seen:
    return _Seen(os.fsencode(os.path.abspath(path)), found.st_size, found.st_mtime_ns, found.st_ino)


def _read(path: Path) -> tuple[_Seen, str]:
    """The digest of a file that did not change while it was read."""
    try:
        for _ in range(3):
            before = _seen(path, os.stat(path))
            digest = file_sha256(path)
            if _seen(path, os.stat(path)) == before:
                return before, digest
    except OSError as error:
        raise UserError(_unreadable(path, error)) from error
    raise UserError(
        Problem(f"{path} changes while it is read", "another process writes to it", "wait until it is finished")
    )


def _unreadable(path: Path, error: OSError) -> Problem:
    return Problem(f"{path} cannot be read", error.strerror or str(error), "check the path and its permissions")
