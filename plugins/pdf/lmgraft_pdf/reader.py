"""Asks a process of its own for the text of PDF files, and outlives it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

__all__ = ["Reader", "shared"]


@functools.cache
def shared(memory_mb: int) -> Reader:
    """One for all parts of this process: starting a child takes longer than most files. It remembers nothing."""
    return Reader(memory_mb)


class Reader:
    """One child at a time, kept for many files; it ends with this object, and with this process."""

    def __init__(self, memory_mb: int) -> None:
        self.memory_mb = memory_mb
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def read(self, path: str, max_pages: int, seconds: int) -> dict[str, Any]:
        """What ``lmgraft_pdf.child.extract`` gives, or ``error`` with ``too_slow`` or ``crashed``."""
        child = self._started()
        asked = json.dumps({"path": os.path.abspath(path), "max_pages": max_pages}).encode() + b"\n"
        try:
            assert child.stdin is not None
            child.stdin.write(asked)
            child.stdin.flush()
            line = _line(child, time.monotonic() + seconds)
        except (BrokenPipeError, EOFError):
            code = child.wait()
            self._child = None
            return {"error": ["crashed", f"PDFium's process ended with {_named(code)}"]}
        except TimeoutError:
            self.close()
            return {"error": ["too_slow", f"PDFium takes more than {seconds} seconds for it"]}
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """Ends the child."""
        child, self._child = self._child, None
        if child is None or self._owner != os.getpid():
            return
        child.kill()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        child.wait()

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if finalizing():
            return  # modules are half gone; the child ends by itself when its input does
        with contextlib.suppress(Exception):
            self.close()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._owner != os.getpid():  # a fork's child has none of its own
            env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
            command = [sys.executable, "-m", "lmgraft_pdf.child", str(self.memory_mb)]
            pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
            self._child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nothing, env=env)
            self._owner = os.getpid()
        return self._child


def _line(child: subprocess.Popen[bytes], until: float) -> bytes:
    """Its next line. Raises TimeoutError, or EOFError where it is gone."""
    assert child.stdout is not None
    pieces: list[bytes] = []
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, until - time.monotonic())):
                raise TimeoutError
            piece = os.read(child.stdout.fileno(), 1 << 20)
            if not piece:
                raise EOFError
            pieces.append(piece)
            if piece.endswith(b"\n"):
                return b"".join(pieces)


def _named(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
