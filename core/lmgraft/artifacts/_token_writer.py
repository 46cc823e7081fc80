"""Writes packed tokens, many documents at a time, in bounded memory; goes on where a killed process was."""

from __future__ import annotations

import json
import os
import shutil
import struct
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lmgraft.errors import Fault, Stopped

__all__ = ["BLOCK", "CODES", "HEADER", "MAGIC", "VERSION", "TokenWriter", "named"]

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
HEADER = struct.Struct("<9sQBQQ")
CODES: dict[int, np.dtype[Any]] = {4: np.dtype("<i4"), 8: np.dtype("<u2")}

#: Entries of an index that are in memory at a time.
BLOCK = 1 << 20

#: What is written goes to the disk, and is noted as done, after so many bytes or seconds.
SEAL_BYTES = 64 << 20
SEAL_SECONDS = 10.0


class TokenWriter:
    """Writes ``prefix.bin`` and ``prefix.idx``; the files appear under these names when whole.

    A context manager: leaving the block finishes the files, leaving it through an error removes what was begun.

    With ``work``, a folder that survives the process, unfinished files lie there and stay there. What
    :meth:`checkpoint` has sealed is found again by the next writer with the same ``work`` and ``by`` (whoever gives
    the ids): ``documents``, ``tokens`` and ``counts`` then begin where that one was, and a file that was finished is
    not written again. The files get their names only by :meth:`publish`, so that those of several splits may appear
    together.
    """

    def __init__(
        self, prefix: Path, dtype: np.dtype[Any], end_id: int, *, work: Path | None = None, by: str = ""
    ) -> None:
        self.prefix = prefix
        self.dtype = dtype
        self.documents = 0
        self.tokens = 0
        self.counts: dict[str, int] = {}
        self.finished = False
        self._by = by
        self._work = work
        self._end = np.array([end_id], dtype=dtype)
        self._open_tokens = 0
        if work is None:
            places = [named(prefix, suffix) for suffix in (".bin.tmp", ".lengths.tmp", ".idx.tmp")]
        else:
            work.mkdir(parents=True, exist_ok=True)
            places = [named(work / prefix.name, suffix) for suffix in (".bin", ".lengths", ".idx")]
        self._bin, self._lengths, self._index = places
        self._resume()
        self._data: BinaryIO = self._opened(self._bin, self.tokens * dtype.itemsize)
        self._spool: BinaryIO = self._opened(self._lengths, self.documents * 4)
        self._sealer = ThreadPoolExecutor(1, thread_name_prefix="seal")
        self._sealing: Future[None] | None = None
        self._sealed = (self.tokens, time.monotonic())

    def add(self, ids: NDArray[np.int32] | Sequence[int]) -> None:
        """One document, without its end token; an empty one counts too."""
        array = np.asarray(ids)
        if array.size and not 0 <= int(array.min()) <= int(array.max()) <= np.iinfo(self.dtype).max:
            raise Fault(f"{self.prefix}: a token id does not fit {self.dtype.name}")
        data = np.concatenate([array.astype(self.dtype), self._end])
        self.add_packed(data, np.array([data.size]), 0)

    def add_packed(self, data: Any, lengths: NDArray[np.integer[Any]], open_tokens: int) -> None:
        """Many documents at once: ``data``, a buffer of ids in the file's dtype with their end tokens.

        ``lengths`` are those of the documents that end in it, in tokens with the end token, the first one from where
        ``data`` begins; ``open_tokens`` follow the last end, of a document that the next call goes on with.
        """
        self._data.write(data)
        if len(lengths):
            whole = lengths.astype("<i4")
            whole[0] += self._open_tokens
            self._spool.write(whole.tobytes())
            self._open_tokens = 0
        self._open_tokens += open_tokens
        self.documents += len(lengths)
        self.tokens += int(lengths.sum()) + open_tokens

    def checkpoint(self, **counts: int) -> None:
        """Seals what is written, now and then, in a thread; between two documents only. ``counts`` are kept with it."""
        self.counts = counts
        size = (self.tokens - self._sealed[0]) * self.dtype.itemsize
        due = size >= SEAL_BYTES or time.monotonic() - self._sealed[1] >= SEAL_SECONDS
        if self._work is None or self._open_tokens or not due or (self._sealing and not self._sealing.done()):
            return
        if self._sealing:
            self._sealing.result()
        self._data.flush()
        self._spool.flush()
        self._sealed = (self.tokens, time.monotonic())
        self._sealing = self._sealer.submit(self._seal, self._facts())

    def publish(self) -> None:
        """Gives the finished files their names."""
        _move(self._bin, named(self.prefix, ".bin"))
        _move(self._index, named(self.prefix, ".idx"))

    def __enter__(self) -> TokenWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            self._sealer.shutdown()
            if kind is None and not self.finished:
                self._finish()
            elif kind is not None and issubclass(kind, Stopped) and self._work and not self._open_tokens:
                self._data.flush()
                self._spool.flush()
                self._seal(self._facts())
        finally:
            self._data.close()
            self._spool.close()
            if self._work is None:
                for path in (self._bin, self._lengths, self._index):
                    path.unlink(missing_ok=True)

    # --- going on ---------------------------------------------------------------------------------------------------

    @property
    def _journal(self) -> Path:
        return named(self._bin.with_suffix(""), ".journal")

    def _facts(self) -> dict[str, Any]:
        return {
            "by": self._by,
            "dtype": self.dtype.str,
            "documents": self.documents,
            "tokens": self.tokens,
            "counts": self.counts,
            "finished": self.finished,
        }

    def _resume(self) -> None:
        if self._work is None or not self._journal.is_file():
            return
        facts = json.loads(self._journal.read_text(encoding="utf-8"))
        sizes = {self._bin: facts["tokens"] * self.dtype.itemsize, self._lengths: facts["documents"] * 4}
        if facts["finished"]:
            sizes[self._index] = 1
        whole = all(path.is_file() and path.stat().st_size >= size for path, size in sizes.items())
        if not whole or (facts["by"], facts["dtype"]) != (self._by, self.dtype.str):
            self._journal.unlink()
            return
        self.documents, self.tokens = facts["documents"], facts["tokens"]
        self.counts, self.finished = facts["counts"], facts["finished"]

    def _opened(self, path: Path, size: int) -> BinaryIO:
        file = path.open("r+b" if size else "wb", buffering=1 << 20)
        if size:
            file.truncate(size)
            file.seek(size)
        return file

    def _seal(self, facts: dict[str, Any]) -> None:
        for file in (self._data, self._spool):
            os.fsync(file.fileno())
        unfinished = self._journal.with_suffix(".journal.tmp")
        with unfinished.open("w", encoding="utf-8") as file_:
            json.dump(facts, file_)
            file_.flush()
            os.fsync(file_.fileno())
        unfinished.replace(self._journal)

    # --- the end ----------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        if self._open_tokens:
            raise Fault(f"{self.prefix}: the last document was not ended")
        if self._sealing:
            self._sealing.result()
        self._spool.flush()
        with self._index.open("wb", buffering=1 << 20) as index:
            self._write_index(index)
            _sync(index)
        _sync(self._data)
        if self._work is None:
            self._data.close()
            self.publish()
        else:
            self.finished = True
            self._seal(self._facts())

    def _write_index(self, index: BinaryIO) -> None:
        code = next(code for code, dtype in CODES.items() if dtype == self.dtype)
        index.write(HEADER.pack(MAGIC, VERSION, code, self.documents, self.documents + 1))
        for lengths in self._spooled():
            index.write(lengths.tobytes())
        start = 0
        for lengths in self._spooled():
            ends = start + np.cumsum(lengths, dtype=np.int64)
            index.write(((ends - lengths) * self.dtype.itemsize).astype("<i8").tobytes())
            start = int(ends[-1])
        for first in range(0, self.documents + 1, BLOCK):
            index.write(np.arange(first, min(first + BLOCK, self.documents + 1), dtype="<i8").tobytes())

    def _spooled(self) -> Iterator[NDArray[np.int32]]:
        with self._lengths.open("rb") as file:
            while data := file.read(BLOCK * 4):
                yield np.frombuffer(data, dtype="<i4")


def named(prefix: Path, suffix: str) -> Path:
    """``prefix`` with ``suffix`` behind its name, which may hold dots."""
    return prefix.with_name(prefix.name + suffix)


def _move(path: Path, place: Path) -> None:
    try:
        os.replace(path, place)
    except OSError:  # on another file system
        shutil.copyfile(path, place)
        with place.open("rb+") as file:
            os.fsync(file.fileno())


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
