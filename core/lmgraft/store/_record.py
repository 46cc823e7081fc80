"""A finished action: what was asked for, and the digest of what came out."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmgraft.store._digest import Manifest
from lmgraft.store._files import exists, names, read_json
from lmgraft.store._layout import Layout

__all__ = ["Record", "damage", "find", "manifest_of", "read_record"]


@dataclass(frozen=True, slots=True)
class Record:
    """One finished action."""

    key: str
    digest: str
    kind: str
    path: Path
    """The artifact's folder: its files and nothing else, read-only."""
    seconds: float
    meta: dict[str, Any]
    sidecar: Path
    """Files that belong to the action and not to the artifact's digest: metrics, the environment."""
    made: float = 0.0
    """When it was published, seconds since the epoch."""
    describe: dict[str, Any] = field(default_factory=dict)
    """What the builder said of it."""


def read_record(layout: Layout, key: str) -> Record | None:
    """The action as written, its object not looked at. None where there is none; ValueError where it is unreadable."""
    folder = layout.action(key)
    try:
        value = read_json(folder / "action.json")
    except (FileNotFoundError, NotADirectoryError):
        if exists(folder) and names(folder):
            raise ValueError(f"{folder} has no action.json") from None
        return None
    try:
        digest = str(value["digest"])
        return Record(
            key=key,
            digest=digest,
            kind=str(value["kind"]),
            path=layout.object(digest) / "files",
            seconds=float(value["seconds"]),
            meta=dict(value["meta"]),
            sidecar=folder / "sidecar",
            made=float(value["made"]),
            describe=dict(value["describe"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'action.json'} lacks {error}") from error


def manifest_of(layout: Layout, digest: str) -> Manifest:
    """ValueError where it is unreadable or another object's; FileNotFoundError where there is none."""
    manifest = Manifest.from_json(read_json(layout.object(digest) / "manifest.json"))
    if manifest.digest != digest:
        raise ValueError("the manifest is another object's")
    return manifest


def damage(layout: Layout, digest: str) -> str | None:
    """What is wrong with an object, by the names and sizes of its files; None where nothing is."""
    try:
        manifest = manifest_of(layout, digest)
    except (FileNotFoundError, NotADirectoryError):
        return "its manifest is missing"
    except ValueError as error:
        return str(error)
    folder = layout.object(digest) / "files"
    for name, (size, _) in manifest.files.items():
        try:
            found = os.stat(folder / name).st_size
        except (FileNotFoundError, NotADirectoryError):
            return f"{name} is missing"
        if found != size:
            return f"{name} has {found} bytes and had {size}"
    return None


def find(layout: Layout, key: str) -> Record | None:
    """The finished action with a whole object behind it, marked as used now; None where there is none."""
    try:
        record = read_record(layout, key)
    except ValueError:
        return None
    if record is None:
        return None
    if damage(layout, record.digest) is not None:
        # A garbage collector that finds an object in use again puts it back at once: look twice.
        time.sleep(0.05)
        if damage(layout, record.digest) is not None:
            return None
    for folder in (layout.object(record.digest), layout.action(key)):
        with contextlib.suppress(OSError):  # a store that one may only read serves as well
            os.utime(folder)
    return record
