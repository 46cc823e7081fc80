"""Who a process is, so that another one can tell whether it still runs."""

from __future__ import annotations

import os
import socket
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["Process"]


@dataclass(frozen=True, slots=True)
class Process:
    """A process, named so that a number given out again does not pass for it."""

    host: str = ""
    machine: str = ""
    """This boot of this machine and its process table (containers have their own); empty where unknown."""
    pid: int = 0
    start: str = ""
    """Clock ticks from the machine's boot to the start of the process; empty where unknown."""

    @staticmethod
    def this() -> Process:
        pid = os.getpid()
        return Process(socket.gethostname(), _machine(), pid, _stat(pid)[1])

    @staticmethod
    def from_json(value: dict[str, Any]) -> Process:
        """Tolerant: a lease of an unknown shape is one whose process cannot be asked after."""
        text = {name: str(value.get(name, "")) for name in ("host", "machine", "start")}
        pid = value.get("pid")
        return Process(text["host"], text["machine"], pid if isinstance(pid, int) else 0, text["start"])

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def here(self) -> bool:
        """Would this machine's process table show it?"""
        return bool(self.machine) and self.machine == _machine()

    @property
    def gone(self) -> bool:
        """Certainly ended. False where that cannot be known (another machine)."""
        if not self.here or self.pid < 1:
            return False
        state, start = _stat(self.pid)
        if not state:
            return not _signalled(self.pid)
        return state in ("Z", "X") or start != self.start  # a zombie will never write again


@cache
def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _stat(pid: int) -> tuple[str, str]:
    """State and start time, fields 3 and 22 of proc(5)'s stat; empty where there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "", ""
    fields = text.rpartition(")")[2].split()  # the name before it may hold blanks and brackets
    return fields[0], fields[19]


def _signalled(pid: int) -> bool:
    """Is there such a process after all? A /proc mounted with hidepid does not show those of other users."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
