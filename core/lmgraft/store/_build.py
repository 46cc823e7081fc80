"""How a building begins: find the finished action, or wait for whoever builds it, or take the work up."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lmgraft.errors import Fault
from lmgraft.store._drift import drifted, refuse
from lmgraft.store._files import exists, has_files, remove_tree
from lmgraft.store._job import Job
from lmgraft.store._layout import Layout
from lmgraft.store._lease import Lease, Leases
from lmgraft.store._place import Place, best_place, places, take
from lmgraft.store._publish import clear_place, finish
from lmgraft.store._record import Record, find

__all__ = ["Request", "begin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be built, and on which terms."""

    key: str
    loose: str
    describe: Mapping[str, Any]
    wait_note: Callable[[str, int], None] | None
    check: Callable[[], None] | None
    accept_drift: bool
    restart: bool
    poll: float

    @property
    def intent(self) -> dict[str, Any]:
        return {"key": self.key, "loose": self.loose, "describe": dict(self.describe)}


def begin(layout: Layout, leases: Leases, request: Request) -> Job:
    """Waits until the key is finished or this process holds its lease; then clears the table for the stage."""
    lease = _lease_or_record(layout, leases, request)
    if isinstance(lease, Record):
        return Job(layout, None, None, resumed=False, record=lease)
    try:
        job = _take_up(layout, leases, request, lease)
    except BaseException as error:
        try:
            if isinstance(error, FileNotFoundError):
                lease.check()  # paused here, and another has moved the folders meanwhile
        finally:
            lease.release()
        raise
    if job.record is not None:
        job.close()
    return job


def _lease_or_record(layout: Layout, leases: Leases, request: Request) -> Lease | Record:
    noted = False
    for turn in itertools.count():
        record = find(layout, request.key)
        if record is not None:
            return record
        last = max((place.token for place in places(layout, request.key)), default=0)
        lease = leases.acquire(request.key, above=last)
        if isinstance(lease, Lease):
            return lease
        # For a moment after it is made, a lease does not say yet whose it is.
        if not noted and request.wait_note is not None and (lease.nonce or turn > 3):
            request.wait_note(lease.process.host or "another machine", lease.process.pid)
            noted = True
        if request.check is not None:
            request.check()
        time.sleep(request.poll)
    raise AssertionError("unreachable")


def _take_up(layout: Layout, leases: Leases, request: Request, lease: Lease) -> Job:
    record = find(layout, request.key)
    if record is not None:  # finished between the last look and the lease
        return Job(layout, lease, None, resumed=False, record=record)
    source, borrowed = _source(layout, leases, request, lease)
    try:
        place = take(layout, lease, source, request.intent)
    finally:
        if borrowed is not None:
            borrowed.release()
    # Asked again: only from here on can whoever held the lease before publish nothing.
    record = find(layout, request.key)
    if record is not None:
        clear_place(layout, place)
    else:
        record = finish(layout, place, lease)
    if record is None:
        _clear(place)
        lease.check()
    return Job(layout, lease, place, resumed=has_files(place.work), record=record)


def _source(layout: Layout, leases: Leases, request: Request, lease: Lease) -> tuple[Place | None, Lease | None]:
    """The place to go on from, and the lease of its key where that is another's. UserError where code has changed."""
    if any(place.token > lease.token for place in places(layout, request.key)):
        raise Fault(f"another process has taken over the building of {request.key[:12]}")
    own = best_place(layout, request.key)
    if request.restart:
        for place in drifted(layout, leases, request.intent):
            _discard(layout, leases, place)
        return None, None  # taking the lease's own place clears the key's other folders away
    others = [] if own is not None and own.started() else drifted(layout, leases, request.intent)
    if not others:
        return own, None
    if not request.accept_drift:
        raise refuse(others[0], request.intent)
    borrowed = _borrow(leases, others[0])
    return (others[0], borrowed) if borrowed is not None else (own, None)


def _borrow(leases: Leases, place: Place) -> Lease | None:
    """The lease of another key's half-done place; None where somebody has just gone on with it."""
    lease = leases.acquire(place.path.parent.name, above=place.token, patient=False)
    if not isinstance(lease, Lease):
        return None
    if exists(place.path):
        return lease
    lease.release()
    return None


def _discard(layout: Layout, leases: Leases, place: Place) -> None:
    borrowed = _borrow(leases, place)
    if borrowed is not None:
        try:
            clear_place(layout, place)
        finally:
            borrowed.release()


def _clear(place: Place) -> None:
    """Empties what must be empty at a stage's start; a sidecar that was about to be published comes back."""
    kept = place.action / "sidecar"
    if exists(kept):
        remove_tree(place.sidecar)
        os.rename(kept, place.sidecar)
    for leftover in (place.object, place.action):
        if exists(leftover):
            remove_tree(leftover)
    place.out.mkdir(parents=True)
