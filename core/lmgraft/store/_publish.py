"""From a builder's folder to a finished action: every step a rename out of a folder that only the holder has.

1. ``object/`` is sealed (read-only, on the disk, hashed) and gets its manifest; ``publish.json`` says so.
2. ``object/`` is renamed to ``objects/<dd>/<digest>``, or dropped where that is there already.
3. ``action/`` (the record and the sidecar) is renamed to ``actions/<kk>/<key>``: from here on the key is found.

A crash after 1 leaves what :func:`finish` goes on from; before it, the work to build ``object/`` from again. A
holder that lost its lease has lost its folder to the successor's rename, so its own renames have no source; and a
rename onto a finished action fails, so the first to publish wins without a lock.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmgraft.errors import Fault
from lmgraft.store._digest import seal
from lmgraft.store._files import exists, fsync, fsync_tree, move_new, nonce, read_json, write_json
from lmgraft.store._layout import Layout
from lmgraft.store._lease import Lease
from lmgraft.store._place import Place
from lmgraft.store._record import Record, damage, find

__all__ = ["clear_place", "finish", "publish"]


def publish(layout: Layout, place: Place, lease: Lease, kind: str, meta: Mapping[str, Any], seconds: float) -> Record:
    """Publishes ``place.out``. Fault where the lease is lost or there is more than plain files in it."""
    lease.check()
    manifest = seal(place.out)
    write_json(place.object / "manifest.json", manifest.as_json())
    intent = place.intent() or {}
    drift = intent.get("drift") or []
    record = {
        "key": lease.key,
        "digest": manifest.digest,
        "kind": kind,
        "meta": {**meta, **({"drift": drift} if drift else {})},
        "seconds": seconds,
        "made": time.time(),
        "describe": intent.get("describe", {}),
    }
    write_json(place.journal, record)
    finished = finish(layout, place, lease)
    if finished is None:
        lease.check()
        raise Fault(f"what was published for {lease.key[:12]} has vanished from {layout.root}")
    return finished


def finish(layout: Layout, place: Place, lease: Lease) -> Record | None:
    """Goes on from the journal; None where there is none, or where its object is no longer to be found."""
    try:
        record = read_json(place.journal)
    except FileNotFoundError:
        return None
    digest = str(record["digest"])
    lease.check()
    if exists(place.object):
        _place_object(layout, place, digest)
    elif damage(layout, digest) is not None:
        place.journal.unlink(missing_ok=True)
        return None
    _fill_action(place, record)
    lease.check()
    published = _place_action(layout, place, lease.key)
    clear_place(layout, place)
    return published


def clear_place(layout: Layout, place: Place) -> None:
    """Removes the builder's folder. Once the action is found, a disk that refuses this is no failure."""
    with contextlib.suppress(OSError):
        layout.discard(place.path)
        place.path.parent.rmdir()


def _place_object(layout: Layout, place: Place, digest: str) -> None:
    target = layout.object(digest)
    while True:
        os.utime(place.object)  # young, for the garbage collector
        if move_new(place.object, target):
            return
        if damage(layout, digest) is not None:
            _evict(place, target)
            continue
        try:
            os.utime(target)
        except FileNotFoundError:  # the garbage collector was at it: place ours
            continue
        return


def _fill_action(place: Place, record: Mapping[str, Any]) -> None:
    place.action.mkdir(exist_ok=True)
    sidecar = place.action / "sidecar"
    if not exists(sidecar):
        os.rename(place.sidecar, sidecar)
    write_json(place.action / "action.json", record)
    fsync_tree(place.action)
    fsync(place.path)


def _place_action(layout: Layout, place: Place, key: str) -> Record:
    target: Path = layout.action(key)
    while True:
        moved = move_new(place.action, target)
        found = find(layout, key)
        if found is not None:
            return found
        if moved:
            raise Fault(f"the action {key[:12]} cannot be found right after it was published in {layout.root}")
        _evict(place, target)


def _evict(place: Place, damaged: Path) -> None:
    """Makes room, by a rename into the builder's own folder: a holder that lost its lease cannot evict a good one."""
    with contextlib.suppress(FileNotFoundError):
        os.rename(damaged, place.path / f"damaged-{nonce()}")
