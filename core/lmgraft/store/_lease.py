"""Who builds a key: a lease with a heartbeat and a fencing token, by exclusive creation alone.

``leases/<key>/<token>`` is made with O_EXCL; the holder is whoever made the highest token, and tokens only rise. A
holder is dead when its heartbeat is older than the time to live, or when this machine's process table shows that it
has ended (so a killed run is taken over at once). A holder that was paused past its time finds a higher token than
its own and stops; the renames of :mod:`lmgraft.store._publish` fail for it besides, its folder having moved.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from lmgraft.errors import Fault
from lmgraft.store._files import names, nonce, read_json, touched
from lmgraft.store._layout import Layout
from lmgraft.store._process import Process

__all__ = ["Holder", "Lease", "Leases"]


@dataclass(frozen=True, slots=True)
class Holder:
    """What the highest token of a key says."""

    token: int
    process: Process
    nonce: str
    touched: int
    """Last heartbeat, nanoseconds on the file server's clock."""


class Leases:
    """The leases of a store. ``ttl`` and ``beat`` are seconds: the time to live and the pause between heartbeats."""

    def __init__(self, layout: Layout, ttl: float, beat: float) -> None:
        self._layout = layout
        self._ttl = ttl
        self._beat = beat
        self._stale: dict[tuple[str, int, int], float] = {}

    def live(self, key: str) -> Holder | None:
        """Who builds the key now."""
        holder = _highest(self._layout.leases(key))
        return holder if holder is not None and not self._dead(key, holder, patient=False) else None

    def acquire(self, key: str, *, above: int = 0, patient: bool = True) -> Lease | Holder:
        """The lease, or the live process that holds it.

        ``above``: the token must be higher than this one (tokens of folders that earlier holders left). ``patient``:
        a heartbeat that merely looks old must stay away while one watches, for after a laptop's sleep every heartbeat
        looks old for a moment.
        """
        folder = self._layout.leases(key)
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            holder = _highest(folder)
            if holder is not None and not self._dead(key, holder, patient=patient):
                return holder
            lease = self._claim(key, max(above, holder.token if holder else 0) + 1, holder)
            if lease is not None:
                return lease

    def _claim(self, key: str, token: int, previous: Holder | None) -> Lease | None:
        folder = self._layout.leases(key)
        name = nonce()
        try:
            handle = os.open(folder / str(token), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except (FileExistsError, FileNotFoundError):  # another was first, or has just cleared the folder away
            return None
        try:
            text = json.dumps({**Process.this().as_json(), "nonce": name}).encode()
            while text:  # the last room on a disk takes a part, and says no only to the rest
                text = text[os.write(handle, text) :]
            os.fsync(handle)  # a file server shows it to other machines only then
        except BaseException:
            os.close(handle)
            (folder / str(token)).unlink(missing_ok=True)
            raise
        tokens = _tokens(folder)
        if max(tokens, default=0) != token:
            os.close(handle)
            (folder / str(token)).unlink(missing_ok=True)
            return None
        for lower in tokens:
            if lower < token:
                (folder / str(lower)).unlink(missing_ok=True)
        return Lease(self._layout, key, token, name, handle, self._beat, previous)

    def _dead(self, key: str, holder: Holder, *, patient: bool) -> bool:
        if holder.process.gone:
            return True
        if (_now(self._layout.leases(key)) - holder.touched) / 1e9 <= self._ttl:
            return False
        since = self._stale.setdefault((key, holder.token, holder.touched), _clock())
        return not patient or _clock() - since >= 2 * self._beat

    def clear(self, key: str, before: float) -> None:
        """Removes what dead holders left under a key, where nothing has changed since ``before`` (epoch seconds)."""
        folder = self._layout.leases(key)
        tokens = _tokens(folder)
        if all(touched(folder / str(token)) <= before for token in tokens) and self.live(key) is None:
            for token in tokens:
                (folder / str(token)).unlink(missing_ok=True)
            _remove_if_empty(folder)


class Lease:
    """A lease that this process holds until it is released, or lost to another."""

    def __init__(
        self, layout: Layout, key: str, token: int, name: str, handle: int, beat: float, previous: Holder | None
    ) -> None:
        self.key = key
        self.token = token
        self.previous = previous
        """The dead holder it was taken from, if any."""
        self._name = name
        self._folder = layout.leases(key)
        self._handle = handle
        self._beat = beat
        self._seen = _clock()
        self._lost = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease {key[:12]}", daemon=True)
        self._thread.start()

    @property
    def folder_name(self) -> str:
        """Names this holder's work folder; no other holder ever has the same."""
        return f"{self.token}-{self._name}"

    def alive(self) -> None:
        """Raises Fault where the lease is lost. Cheap: asks the disk only where the heartbeat has not lately."""
        if self._lost or _clock() - self._seen > 2 * self._beat:
            self.check()

    def check(self) -> None:
        """Raises Fault where the lease is lost, by what the disk says now."""
        self._lost = self._lost or not self._ours()
        if self._lost:
            raise Fault(
                f"another process has taken over the building of {self.key[:12]} because this one showed no sign of "
                "life (was it paused?); this one stops and publishes nothing"
            )
        self._seen = _clock()

    def release(self) -> None:
        """Gives the lease back; what it was for may go on elsewhere at once. A second call does nothing."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._thread.join()
        os.close(self._handle)
        with contextlib.suppress(OSError):  # what stays behind belongs to a dead holder, and is known to
            if self._ours():
                (self._folder / str(self.token)).unlink(missing_ok=True)
            _remove_if_empty(self._folder)

    def _ours(self) -> bool:
        holder = _highest(self._folder)
        return holder is not None and holder.token == self.token and holder.nonce == self._name

    def _keep(self) -> None:
        while not self._stop.wait(self._beat):
            # A disk that does not answer is no reason to stop: the next beat asks again, and publishing asks for sure.
            with contextlib.suppress(OSError):
                if not self._ours():
                    self._lost = True
                    return
                # By handle where the system can: never the heartbeat of a successor.
                os.utime(self._handle if os.utime in os.supports_fd else self._folder / str(self.token))
                self._seen = _clock()


def _tokens(folder: Path) -> list[int]:
    return sorted(int(name) for name in names(folder) if name.isdigit())


def _highest(folder: Path) -> Holder | None:
    while tokens := _tokens(folder):
        path = folder / str(tokens[-1])
        try:
            touched = path.stat().st_mtime_ns
            value = read_json(path)
        except FileNotFoundError:  # released meanwhile, though a file server may list it a little longer
            time.sleep(0.01)
            continue
        except ValueError:  # made and not yet written
            value = {}
        return Holder(tokens[-1], Process.from_json(value), str(value.get("nonce", "")), touched)
    return None


def _now(folder: Path) -> int:
    """The file server's clock, nanoseconds: heartbeats are compared on it, for the clocks of machines differ."""
    path = folder / f".now-{nonce()}"
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileNotFoundError:  # the folder was cleared away: no heartbeat is left to compare with
        return time.time_ns()
    try:
        return os.fstat(handle).st_mtime_ns
    finally:
        os.close(handle)
        path.unlink(missing_ok=True)


def _clock() -> float:
    """Seconds that go on while the machine sleeps, where there is such a clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _remove_if_empty(folder: Path) -> None:
    for name in names(folder):
        if name.startswith(".now-"):  # of a process that was killed while it asked for the time
            (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()
