"""Whole-process times, ours and a peer's in turn (A B A B), after one warm-up each."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEERS = HERE / ".peers"

#: Seconds between two looks at a process's memory.
LOOK = 0.005


@dataclass(frozen=True)
class Run:
    """One process, from its start to its end."""

    seconds: float
    peak_mb: float
    """Most resident memory (VmHWM), pages of memory-mapped files among it; 0 off Linux."""
    anon_mb: float
    """Most resident memory that is the process's own (RssAnon), looked at every few milliseconds; 0 off Linux."""
    out: str


@dataclass(frozen=True)
class Times:
    seconds: list[float]
    peak_mb: float
    anon_mb: float

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> str:
        return f"{min(self.seconds):.3f} to {max(self.seconds):.3f}"


def peer_python(name: str) -> Path:
    """The Python of a peer's own virtual environment, made from bench/peers/NAME.txt when it is missing."""
    folder = PEERS / name
    done = folder / "complete"
    if not done.is_file():
        print(f"making the environment of the peer {name} (once) ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        python = folder / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", HERE / "peers" / f"{name}.txt"], check=True)
        done.touch()
    return folder / "bin" / "python"


def once(command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Run:
    """One run of a command; raises where it fails."""
    # Files, not pipes: a progress bar would fill a pipe that nobody reads meanwhile, and stop its writer.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+", errors="replace") as said:
        started = time.perf_counter()
        process = subprocess.Popen(list(map(str, command)), stdout=out, stderr=said, text=True, env=env)
        with _Watch(process.pid) as watch:
            _, status = os.waitpid(process.pid, 0)
            seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        said.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(map(str, command))} failed:\n{said.read()}")
        return Run(seconds, watch.most["VmHWM"], watch.most["RssAnon"], out.read())


class _Watch:
    """Looks at a process's memory from a thread, until the block ends.

    Not getrusage(): what that tells of a child begins with the memory of the parent which started it.
    """

    def __init__(self, pid: int) -> None:
        self.most = {"VmHWM": 0.0, "RssAnon": 0.0}
        """MB."""
        self._status = Path(f"/proc/{pid}/status")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(LOOK):
            try:
                lines = self._status.read_text(encoding="utf-8").splitlines()
            except OSError:
                return
            for name, _, value in (line.partition(":") for line in lines):
                if name in self.most:
                    self.most[name] = max(self.most[name], int(value.split()[0]) / 1024)


def alternate(
    commands: Mapping[str, Sequence[str | Path]],
    runs: int,
    env: Mapping[str, str] | None = None,
    before: Callable[[], None] = lambda: None,
) -> dict[str, Times]:
    """Times of each command, taken in turn; ``before`` is called ahead of every run and is not timed."""
    for command in commands.values():
        before()
        once(command, env)
    found: dict[str, list[Run]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            before()
            found[name].append(once(command, env))
    return {
        name: Times([run.seconds for run in done], max(run.peak_mb for run in done), max(run.anon_mb for run in done))
        for name, done in found.items()
    }


def machine() -> str:
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{os.cpu_count()} cores of {model}, Python {platform.python_version()}"
