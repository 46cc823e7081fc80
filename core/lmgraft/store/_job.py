"""What a builder holds while it builds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmgraft.errors import Fault
from lmgraft.store._errors import explained
from lmgraft.store._layout import Layout
from lmgraft.store._lease import Lease
from lmgraft.store._place import Place
from lmgraft.store._publish import publish
from lmgraft.store._record import Record

__all__ = ["Job"]


class Job:
    """A key's building. Where ``record`` is set there is nothing left to build."""

    def __init__(
        self, layout: Layout, lease: Lease | None, place: Place | None, *, resumed: bool, record: Record | None
    ) -> None:
        self.resumed = resumed
        """Is there something in ``work`` to go on from?"""
        self.record = record
        """The finished action: found, waited for, or published by this job."""
        self._layout = layout
        self._lease = lease
        self._place = place

    @property
    def work(self) -> Path:
        """Survives a crash."""
        return self._open().work

    @property
    def out(self) -> Path:
        """Becomes the artifact; empty at the start, after a crash too."""
        return self._open().out

    @property
    def sidecar(self) -> Path:
        """Files for the action that are no part of the artifact; survives a crash as ``work`` does."""
        return self._open().sidecar

    def alive(self) -> None:
        """Raises Fault where another process has taken the building over. Cheap enough for every step."""
        if self._lease is not None:
            self._lease.alive()

    def publish(self, kind: str, meta: Mapping[str, Any], seconds: float) -> Record:
        """Makes ``out`` the artifact: immutable, hashed, found under the key from now on.

        :param meta: plain JSON values, kept with the action.
        :param seconds: how long the building took, for the tables.
        :returns: the finished action; another's, where that was published first.
        :raises Fault: the lease is lost, or there are symlinks, sockets or devices in ``out``.
        :raises UserError: the disk is full or refuses.
        """
        place = self._open()
        assert self._lease is not None
        with explained(self._layout.root):
            try:
                self.record = publish(self._layout, place, self._lease, kind, meta, seconds)
            except FileNotFoundError:
                self._lease.check()  # the folder has moved to whoever took the lease over
                raise
        return self.record

    def confirm(self) -> None:
        """As :meth:`alive`, by what the disk says now."""
        if self._lease is not None:
            self._lease.check()

    def close(self) -> None:
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    def _open(self) -> Place:
        if self._place is None or self.record is not None:
            raise Fault("there is nothing to build: the action is finished; use the job's record")
        return self._place
