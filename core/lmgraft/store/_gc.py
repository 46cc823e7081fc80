"""Removes what no run uses.

Kept are the actions of registered runs that still exist, whatever a live lease builds or says that it reads, and
everything touched within the grace (finding an action touches it). No lock is needed: a folder goes to the trash by
a rename, is looked at once more there, and comes back where somebody has used it meanwhile.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lmgraft.store._files import move_new, names, newest, nonce, remove_tree, size_of, touched
from lmgraft.store._layout import Layout
from lmgraft.store._lease import Lease, Leases
from lmgraft.store._place import places
from lmgraft.store._record import read_record
from lmgraft.store._roots import roots

__all__ = ["GcReport", "collect"]

_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")
#: What lies longer in the trash was left by a process that was killed while it removed it.
_TRASH_SECONDS = 600.0


@dataclass(slots=True)
class GcReport:
    """What was removed; with ``dry_run``, what would have been."""

    freed: int = 0
    """Bytes."""
    actions: list[str] = field(default_factory=list)
    """Keys."""
    objects: list[str] = field(default_factory=list)
    """Digests."""
    work: list[str] = field(default_factory=list)
    """Keys of half-done work."""
    runs: list[Path] = field(default_factory=list)
    """Run directories that no longer exist."""


def collect(layout: Layout, leases: Leases, *, grace: float, dry_run: bool) -> GcReport:
    """Removes everything that nothing needs and that was not touched for ``grace`` seconds."""
    return _Collector(layout, leases, grace=grace, dry_run=dry_run).run()


class _Collector:
    def __init__(self, layout: Layout, leases: Leases, *, grace: float, dry_run: bool) -> None:
        self.layout = layout
        self.leases = leases
        self.grace = grace
        self.dry_run = dry_run
        self.before = time.time() - max(0.0, grace)  # never what was touched since this began
        self.report = GcReport()

    def run(self) -> GcReport:
        kept = self._roots()
        live = {key for key in self.layout.keys("leases") if self.leases.live(key) is not None}
        reachable = self._named_by(live)
        for key in self.layout.fanned("actions"):
            digest = self._digest(key)
            if key in kept or key in live or not self._take(self.layout.action(key)):
                reachable.update([digest] if digest else [])
            else:
                self.report.actions.append(key)
        for digest in self.layout.fanned("objects"):
            if digest not in reachable and self._take(self.layout.object(digest)):
                self.report.objects.append(digest)
        for key in self.layout.keys("work"):
            if key not in kept and key not in live:
                self._work(key)
        if not self.dry_run:
            self._sweep()
        return self.report

    def _roots(self) -> set[str]:
        kept: set[str] = set()
        for root in roots(self.layout):
            if root.stands(self.grace):
                kept |= root.keys
                continue
            self.report.runs.append(root.run_dir)
            if not self.dry_run:
                root.file.unlink(missing_ok=True)
        return kept

    def _named_by(self, live: Iterable[str]) -> set[str]:
        """Every digest that a building at work names: its inputs, and what it is just publishing."""
        named: set[str] = set()
        for key in live:
            for place in places(self.layout, key):
                for path in (place.intent_path, place.journal):
                    try:
                        named.update(_DIGEST.findall(path.read_text()))
                    except FileNotFoundError:
                        continue
        return named

    def _digest(self, key: str) -> str | None:
        try:
            record = read_record(self.layout, key)
        except ValueError:
            return None
        return record.digest if record else None

    def _take(self, folder: Path) -> bool:
        """Removes a folder unless it was used lately. True where it is gone (or would be)."""
        if touched(folder) > self.before:
            return False
        size = size_of(folder)
        if not self.dry_run:
            aside = self.layout.trash / nonce()
            try:
                os.rename(folder, aside)
            except FileNotFoundError:
                return False
            if touched(aside) > self.before and move_new(aside, folder):
                return False
            remove_tree(aside)
        self.report.freed += size
        return True

    def _work(self, key: str) -> None:
        folder = self.layout.work(key)
        if newest(folder) > self.before:
            return
        size = size_of(folder)
        if not self.dry_run:
            last = max((place.token for place in places(self.layout, key)), default=0)
            lease = self.leases.acquire(key, above=last, patient=False)
            if not isinstance(lease, Lease):
                return
            try:
                self.layout.discard(folder)
            finally:
                lease.release()
        self.report.freed += size
        self.report.work.append(key)

    def _sweep(self) -> None:
        """Scraps: the leases of the dead, what a killed process left in the trash, half-written registrations."""
        for key in self.layout.keys("leases"):
            self.leases.clear(key, self.before)
        for name in names(self.layout.trash):
            path = self.layout.trash / name
            # A rename sets the time of the last change of state, and of nothing else.
            if _changed(path) < time.time() - _TRASH_SECONDS:
                self.report.freed += size_of(path)
                remove_tree(path)
        for folder in (self.layout.roots, self.layout.root):
            for name in names(folder):
                if name.startswith(".") and name.endswith(".tmp") and touched(folder / name) <= self.before:
                    (folder / name).unlink(missing_ok=True)


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_ctime
    except FileNotFoundError:
        return time.time()
