"""The store's front: everything else in this package is how."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmgraft.errors import Problem
from lmgraft.store._build import Request, begin
from lmgraft.store._errors import explained
from lmgraft.store._gc import GcReport, collect
from lmgraft.store._inspect import Entry, listing, verify
from lmgraft.store._job import Job
from lmgraft.store._layout import Layout
from lmgraft.store._lease import Leases
from lmgraft.store._record import Record, find
from lmgraft.store._roots import register

if TYPE_CHECKING:
    from lmgraft.store._filecache import FileDigests

__all__ = ["Store"]


class Store:
    """Finished artifacts by action key, and the work on those that are not finished.

    Several processes, on several machines, may use one store. Nothing is made on disk before something is built,
    registered or digested. A full or read-only disk is a :class:`~lmgraft.errors.UserError`.

    :param root: the store's folder (``store.dir``).
    :param ttl: seconds without a heartbeat after which a builder counts as dead.
    :param beat: seconds between heartbeats.
    :param poll: seconds between looks at a key that another process builds.
    """

    def __init__(self, root: Path, *, ttl: float = 60.0, beat: float = 5.0, poll: float = 0.5) -> None:
        self.root = Path(os.path.abspath(Path(root).expanduser()))
        self._poll = poll
        self._layout = Layout(self.root)
        self._leases = Leases(self._layout, ttl, beat)
        self._files: FileDigests | None = None

    def lookup(self, key: str) -> Record | None:
        """The finished action, checked by the names and sizes of its files; None where there is none, or damage.

        What is found counts as used now: the garbage collector leaves it for its grace. A damaged action is replaced
        when the key is built again.
        """
        with explained(self.root):
            return find(self._layout, key) if self._layout.ready() else None

    @contextmanager
    def build(
        self,
        key: str,
        *,
        loose: str = "",
        describe: Mapping[str, Any] | None = None,
        wait_note: Callable[[str, int], None] | None = None,
        check: Callable[[], None] | None = None,
        accept_drift: bool = False,
        restart: bool = False,
    ) -> Iterator[Job]:
        """Builds a key, alone: another process that builds it is waited for, and what it published is the job's record.

        :param key: the action's key.
        :param loose: a hash like the key that leaves out the parts' code; empty looks for no drift.
        :param describe: plain JSON values, kept with the action: ``stage`` (its name, for messages), ``parts`` (name
            -> package hash, compared where code has drifted). Digests named in it are safe from the garbage
            collector while the building goes on.
        :param wait_note: called once with host and process number where another process is waited for.
        :param check: called while waiting; may raise.
        :param accept_drift: go on from half-done work of the same ``loose`` hash, and record it in ``meta["drift"]``.
        :param restart: discard half-done work of this key, or of the same ``loose`` hash.
        :raises UserError: code has changed under half-done work, and neither way on was chosen; or the disk refuses.
        :raises Fault: another process has taken the building over.
        """
        request = Request(
            key=key,
            loose=loose,
            describe=describe or {},
            wait_note=wait_note,
            check=check,
            accept_drift=accept_drift,
            restart=restart,
            poll=self._poll,
        )
        self._layout.prepare()
        with explained(self.root):
            job = begin(self._layout, self._leases, request)
            try:
                yield job
            except FileNotFoundError:
                job.confirm()  # a stage whose folder has moved to another process gets to hear that instead
                raise
            finally:
                job.close()

    def file_digest(self, path: Path) -> str:
        """sha256 of an input file, remembered by (path, size, mtime, inode). UserError where it cannot be read."""
        return self.file_digests([path])[0]

    def file_digests(self, paths: Sequence[Path]) -> list[str]:
        """As :meth:`file_digest` for many files at once, in their order."""
        # Imported here: SQLite is a third of the package's import time, and listing a store needs none of it.
        from lmgraft.store._filecache import FileDigests

        if self._files is None:
            self._layout.prepare()
            self._files = FileDigests(self._layout.digests)
        return self._files.digests(paths)

    def register(self, run_dir: Path, keys: Iterable[str]) -> None:
        """Says that a run uses these keys, beside those it has registered before: they stay as long as its run.json."""
        self._layout.prepare()
        with explained(self.root):
            register(self._layout, run_dir, keys)

    def ls(self) -> list[Entry]:
        """Every finished action, the latest first."""
        with explained(self.root):
            return listing(self._layout) if self._layout.ready() else []

    def verify(
        self,
        progress: Callable[[int, int], None] | None = None,
        *,
        repair: bool = False,
        broken: Callable[[str, Path], Iterable[str]] | None = None,
    ) -> list[Problem]:
        """Reads every artifact again and returns what is damaged; ``repair`` removes that.

        :param progress: called with (bytes so far, bytes in all) after each artifact.
        :param broken: called with (kind, folder) of each that is not damaged; gives the rules of its kind that it
            breaks, which are returned too.
        """
        with explained(self.root):
            return verify(self._layout, progress, repair=repair, broken=broken) if self._layout.ready() else []

    def gc(self, grace_seconds: float = 86_400.0, *, dry_run: bool = False) -> GcReport:
        """Removes what no registered run and no living process needs and nobody used within the grace."""
        with explained(self.root):
            if not self._layout.ready():
                return GcReport()
            return collect(self._layout, self._leases, grace=grace_seconds, dry_run=dry_run)
