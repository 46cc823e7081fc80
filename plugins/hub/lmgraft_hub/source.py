"""Data source ``hub``: data sets of the Hugging Face hub by ``datasets``' own readers, streamed, a unit a file."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from typing import Any

from lmgraft.errors import Fault, Problem, UserError
from lmgraft.rows.reader import RowReader
from lmgraft.rows.values import RowError
from lmgraft.seams.data_source import Damaged, Document, Unit, Unreachable, Unreadable

from lmgraft_hub.plugin import HubConfig
from lmgraft_hub.resolving import Opened, opened, pinned
from lmgraft_hub.telling import is_network, told

__all__ = ["Hub"]

_DIGEST = re.compile(r"(?P<commit>[0-9a-f]*):(?P<index>\d+)/(?P<count>\d+)(:.*)?")


class Hub:
    """Reads a split of a data set; a unit is one of its files, pinned by the commit (in a folder: by its content)."""

    def __init__(self, config: HubConfig) -> None:
        self.config = config
        self.reader = RowReader(config)
        self._opened: dict[str, Opened] = {}

    def units(self) -> list[Unit]:
        """A unit for each file, in the order of ``datasets``. Raises UserError where the hub does not answer, does not
        know the data set, or has nothing that can be read without its code."""
        pin = pinned(self.config)
        split = self._open(pin.commit)
        digests = [f"{pin.commit}:{number}/{split.shards}" for number in range(split.shards)]
        folder = self.config.folder()
        if not split.files:
            content = "" if folder is None else ":" + _content(folder)
            return [Unit(f"{self.config.split}/{n:05d}", digest=digest + content) for n, digest in enumerate(digests)]
        if folder is None:
            pairs = zip(split.files, digests, strict=True)
            return [Unit(name, digest=digest, size=pin.sizes.get(name, 0)) for name, digest in pairs]
        paths = [os.path.join(folder, name) for name in split.files]
        rows = zip(split.files, paths, digests, strict=True)
        return [Unit(name, path, digest, size=os.path.getsize(path)) for name, path, digest in rows]

    def read(self, unit: Unit, offset: int) -> Iterator[Document | Damaged]:
        """The documents of a unit after its first ``offset``; ids are the unit's id and the number of the row.

        Raises Unreadable where a file cannot be read on, and Unreachable where the hub no longer answers: nothing is
        wrong with the data then, and nothing of it may count as damaged.
        """
        for found in self._read(unit):
            if not offset:
                yield found
            elif isinstance(found, Document):
                offset -= 1

    def _read(self, unit: Unit) -> Iterator[Document | Damaged]:
        number = 0
        try:
            for row in self._rows(unit):
                try:
                    found: Document | Damaged = self.reader.document(row, f"{unit.id}:{number}")
                except RowError as error:
                    found = error.damaged(f"hub: {self.config.name}, {unit.id} (row {number + 1})")
                yield found
                number += 1
        except Exception as error:
            if is_network(error):
                problem = told(self.config, error)
                again = Problem(problem.fact, problem.cause, "start again: finished work is kept")
                raise Unreachable(again) from error
            if isinstance(error, UserError | Fault):
                raise
            fact = f"hub: {self.config.name}, {unit.id} cannot be read after row {number}"
            said = f"{type(error).__name__}: {error}"
            remedy = "try another hub.revision, or download it and read it with the source files"
            raise Unreadable("unreadable", Problem(fact, said, remedy)) from error

    def _rows(self, unit: Unit) -> Iterator[dict[str, Any]]:
        found = _DIGEST.fullmatch(unit.digest or "")
        if found is None:
            raise Fault(f"hub: unit {unit.id!r} has the digest {unit.digest!r}, which is none of this source")
        split = self._open(found["commit"])
        if split.shards != int(found["count"]):
            raise Fault(f"hub: {self.config.name} has {split.shards} shards, and {found['count']} when it was listed")
        rows = split.rows.shard(num_shards=split.shards, index=int(found["index"]))
        columns = self._columns(rows.features)
        return iter(rows if columns is None else rows.select_columns(columns))

    def _columns(self, features: Any) -> list[str] | None:
        """What rows are made of, and plain values; no picture or sound is decoded. None: not known."""
        if features is None:
            return None
        import datasets

        for key in self.reader.keys:
            if key not in features and key.split(".")[0] not in features:
                raise self.reader.lacks(key, list(features)).unreadable(f"hub: {self.config.name}")
        used = {name for key in (*self.reader.keys, *self.reader.optional) for name in (key, key.split(".")[0])}
        return [name for name, kind in features.items() if name in used or isinstance(kind, datasets.Value)]

    def _open(self, commit: str) -> Opened:
        if commit not in self._opened:
            self._opened[commit] = opened(self.config, commit)
        return self._opened[commit]


def _content(folder: str) -> str:
    """sha256 of the names and contents of all that is in a folder."""
    whole = hashlib.sha256()
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            path = os.path.join(root, name)
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            whole.update(f"{os.path.relpath(path, folder)} {digest}\n".encode())
    return whole.hexdigest()
