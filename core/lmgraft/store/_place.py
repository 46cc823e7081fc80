"""The folder in which a key is being built, and how one builder takes it over from another.

A folder's name is its holder's, so taking over is a rename: whoever held it before can no longer write by path.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmgraft.store._files import exists, fsync, has_files, names, read_json, write_json
from lmgraft.store._inodes import cut_off
from lmgraft.store._layout import Layout
from lmgraft.store._lease import Lease

__all__ = ["Place", "best_place", "places", "take"]

_NAME = re.compile(r"([0-9]+)-[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Place:
    """``work/<key>/<token>-<nonce>``."""

    path: Path

    @property
    def token(self) -> int:
        match = _NAME.fullmatch(self.path.name)
        return int(match[1]) if match else 0

    @property
    def intent_path(self) -> Path:
        return self.path / "intent.json"

    @property
    def work(self) -> Path:
        return self.path / "work"

    @property
    def object(self) -> Path:
        return self.path / "object"

    @property
    def out(self) -> Path:
        return self.object / "files"

    @property
    def sidecar(self) -> Path:
        return self.path / "sidecar"

    @property
    def journal(self) -> Path:
        """There from the moment that ``object`` is complete and on the disk: all that is left is to move it."""
        return self.path / "publish.json"

    @property
    def action(self) -> Path:
        return self.path / "action"

    def intent(self) -> dict[str, Any] | None:
        """What is being built here; None where this is no place (a leftover, or still being made)."""
        try:
            return read_json(self.intent_path)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None

    def started(self) -> bool:
        """Is there work to go on from?"""
        return has_files(self.work) or exists(self.journal)


def places(layout: Layout, key: str) -> list[Place]:
    """All folders of a key that builders have left, the newest token last."""
    folder = layout.work(key)
    found = [Place(folder / name) for name in names(folder) if _NAME.fullmatch(name)]
    return sorted(found, key=lambda place: place.token)


def best_place(layout: Layout, key: str) -> Place | None:
    """The place that the last builder left. A paused one that wakes may leave scraps, but never an intent."""
    return next((place for place in reversed(places(layout, key)) if place.intent() is not None), None)


def take(layout: Layout, lease: Lease, source: Place | None, intent: Mapping[str, Any]) -> Place:
    """Makes the lease's own place, out of ``source`` where there is one, and clears the key's other folders away."""
    place = Place(layout.work(lease.key) / lease.folder_name)
    place.path.parent.mkdir(parents=True, exist_ok=True)
    lease.check()
    if source is None:
        place.path.mkdir()
    else:
        os.rename(source.path, place.path)
        fsync(place.path.parent)
        if source.path.parent != place.path.parent:
            with contextlib.suppress(OSError):
                source.path.parent.rmdir()
    for other in places(layout, lease.key):
        if other.token < lease.token:
            layout.discard(other.path)
    if source is not None:
        previous = lease.previous
        cut_off(place.path, local=previous is None or previous.process.here)
    _settle(place, intent)
    for folder in (place.work, place.sidecar):
        folder.mkdir(exist_ok=True)
    return place


def _settle(place: Place, intent: Mapping[str, Any]) -> None:
    """Writes what is being built; where the place comes from another key, also what has changed since.

    Told by the key inside, not by the caller's memory: a crash after the rename must not hide the drift.
    """
    old = place.intent()
    if old is None or old.get("key") == intent["key"]:
        drift = old.get("drift", []) if old else []
    else:
        drift = [*old.get("drift", []), {"from": old.get("key"), "changed": changed_parts(old, intent)}]
        place.journal.unlink(missing_ok=True)
    write_json(place.intent_path, {**intent, "drift": drift})


def changed_parts(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, list[str | None]]:
    """Part -> [its package hash before, now] for each part that differs; None where there is no such part."""
    before, now = (dict(intent.get("describe", {}).get("parts", {})) for intent in (old, new))
    return {
        name: [before.get(name), now.get(name)] for name in sorted({*before, *now}) if before.get(name) != now.get(name)
    }
