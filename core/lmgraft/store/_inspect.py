"""What a store holds, and whether it is still what was put in."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from lmgraft.errors import Fault, Problem
from lmgraft.store._digest import Manifest, folder_manifest
from lmgraft.store._files import exists, size_of
from lmgraft.store._layout import Layout
from lmgraft.store._record import Record, manifest_of, read_record
from lmgraft.store._roots import roots

__all__ = ["Entry", "listing", "verify"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of ``lmgraft store ls``."""

    record: Record
    size: int
    """Bytes of the artifact and of what lies beside it. Two actions may share one artifact."""
    age: float
    """Seconds since it was made."""
    idle: float
    """Seconds since it was last used; what the garbage collector goes by."""
    users: tuple[Path, ...]
    """The run directories that use it and still exist."""


def listing(layout: Layout) -> list[Entry]:
    """Every finished action, the latest first; a damaged one is left to :func:`verify`."""
    standing = [root for root in roots(layout) if root.stands(0.0)]
    entries: list[Entry] = []
    for key in layout.fanned("actions"):
        try:
            record = read_record(layout, key)
            if record is None:
                continue
            size = manifest_of(layout, record.digest).size + size_of(record.sidecar)
            used = layout.action(key).stat().st_mtime
        except (FileNotFoundError, ValueError):
            continue
        users = tuple(root.run_dir for root in standing if key in root.keys)
        now = time.time()
        entries.append(Entry(record, size, max(0.0, now - record.made), max(0.0, now - used), users))
    return sorted(entries, key=lambda entry: entry.age)


def verify(
    layout: Layout,
    progress: Callable[[int, int], None] | None,
    *,
    repair: bool,
    broken: Callable[[str, Path], Iterable[str]] | None = None,
) -> list[Problem]:
    """Reads every object again. ``progress(bytes so far, bytes in all)`` is called after each.

    ``repair``: damaged objects and the actions that lead to them are removed, so that the next run builds them anew.
    ``broken(kind, folder)`` tells which rules of its kind an object breaks that is not damaged; such a one is never
    removed, for a stage wrote it so and would again.
    """
    kinds = _kinds(layout) if broken is not None else {}
    problems: list[Problem] = []
    damaged: set[str] = set()
    digests = layout.fanned("objects")
    total = sum(size_of(layout.object(digest)) for digest in digests)
    done = 0
    for digest in digests:
        size = size_of(layout.object(digest))
        cause = _wrong(layout, digest)
        if cause is not None:
            damaged.add(digest)
            problems.append(_problem(str(layout.object(digest)), cause, repair))
            if repair:
                layout.discard(layout.object(digest))
        elif broken is not None:
            for kind in sorted(kinds.get(digest, ())):
                problems += [_unsound(layout, digest, kind, text) for text in broken(kind, _files(layout, digest))]
        done += size
        if progress is not None:
            progress(min(done, total), total)
    return problems + _actions(layout, damaged, repair=repair)


def _kinds(layout: Layout) -> dict[str, set[str]]:
    """Digest -> the kinds that actions made it as; what cannot be read is told by :func:`_actions`."""
    found: dict[str, set[str]] = {}
    for key in layout.fanned("actions"):
        with contextlib.suppress(ValueError):
            record = read_record(layout, key)
            if record is not None:
                found.setdefault(record.digest, set()).add(record.kind)
    return found


def _files(layout: Layout, digest: str) -> Path:
    return layout.object(digest) / "files"


def _unsound(layout: Layout, digest: str, kind: str, cause: str) -> Problem:
    fact = f"{layout.object(digest)} is undamaged and no sound {kind}"
    remedy = "report the stage that wrote it; lmgraft runs delete and lmgraft store gc --grace 0 take it away"
    return Problem(fact, cause, remedy)


def _wrong(layout: Layout, digest: str) -> str | None:
    try:
        promised = manifest_of(layout, digest)
        found = folder_manifest(_files(layout, digest))
    except (ValueError, Fault) as error:
        return str(error)
    except FileNotFoundError as error:
        # The garbage collector may have taken it while it was read.
        return f"{error.filename} is missing" if exists(layout.object(digest)) else None
    return _difference(promised, found)


def _difference(promised: Manifest, found: Manifest) -> str | None:
    for name in sorted({*promised.files, *found.files}):
        was, now = promised.files.get(name), found.files.get(name)
        if now is None:
            return f"{name} is missing"
        if was is None:
            return f"{name} was not published with it"
        if was != now:
            return f"{name} has other content than was published"
    return None


def _actions(layout: Layout, damaged: set[str], *, repair: bool) -> list[Problem]:
    problems: list[Problem] = []
    for key in layout.fanned("actions"):
        try:
            record = read_record(layout, key)
        except ValueError as error:
            problems.append(_problem(str(layout.action(key)), str(error), repair))
        else:
            if record is None or (record.digest not in damaged and exists(layout.object(record.digest))):
                continue
            if record.digest not in damaged:
                problems.append(_problem(str(layout.action(key)), f"its object {record.digest} is missing", repair))
        if repair:
            layout.discard(layout.action(key))
    return problems


def _problem(path: str, cause: str, repair: bool) -> Problem:
    remedy = "nothing: it is removed, and the next run builds it anew" if repair else "lmgraft store verify --repair"
    return Problem(f"{path} is damaged", cause, remedy)
