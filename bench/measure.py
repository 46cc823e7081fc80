"""Whole-process times, ours and a peer's in turn (A B A B), after one warm-up each."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEERS = HERE / ".peers"


@dataclass(frozen=True)
class Times:
    seconds: list[float]
    peak_mb: float

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


def once(command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> tuple[float, float, str]:
    """(seconds, peak MB of the process, its stdout) of one run; raises where it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )
    assert process.stdout is not None
    assert process.stderr is not None
    out = process.stdout.read()
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{said}")
    return seconds, usage.ru_maxrss / 1024, out


def alternate(commands: Mapping[str, Sequence[str | Path]], runs: int) -> dict[str, Times]:
    """Times of each command, taken in turn."""
    for command in commands.values():
        once(command)
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    peak = dict.fromkeys(commands, 0.0)
    for _ in range(runs):
        for name, command in commands.items():
            took, megabytes, _ = once(command)
            seconds[name].append(took)
            peak[name] = max(peak[name], megabytes)
    return {name: Times(seconds[name], peak[name]) for name in commands}


def machine() -> str:
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{os.cpu_count()} cores of {model}, Python {platform.python_version()}"
