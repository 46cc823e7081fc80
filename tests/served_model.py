"""A model that is served, for tests that ask it: in this process, or by ``lmgraft serve`` in one of its own."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Inside", "Served", "inside", "serving"]


@dataclass
class Inside:
    """A server in a thread; ``lines`` is its log."""

    url: str
    lines: list[str]

    def until(self, line: str, seconds: float = 20) -> str:
        """Waits for a line of the log that this pattern is found in."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = [one for one in self.lines if re.search(line, one)]
            if found:
                return found[-1]
            time.sleep(0.01)
        raise AssertionError(f"no line {line!r} in: {self.lines}")


@contextmanager
def inside(
    model: Path,
    *,
    key: str | None = None,
    at_once: int = 16,
    queue: int = 64,
    seconds: float = 60,
    body: int = 65536,
) -> Iterator[Inside]:
    """Serves the model in ``model`` from a thread, with all that ``lmgraft serve`` puts together."""
    import torch
    from lmgraft import loading
    from lmgraft.generation.prompts import prompts
    from lmgraft.serving import running
    from lmgraft.serving.app import Served as What
    from lmgraft.serving.app import application
    from lmgraft.serving.asked import Limits
    from lmgraft.serving.guard import Rules
    from lmgraft.serving.worker import Worker

    handle = loading.load(model, device="cpu", precision="float32")
    worker = Worker(handle, at_once=at_once, waiting=queue)
    limits = Limits(model=model.name, context=handle.context, tokens=handle.context, texts=worker.limit)
    lines: list[str] = []
    app = application(What(prompts(model), worker, limits, seconds, body), Rules(key=key, log=lines.append))
    bound = running.listen(running.address("127.0.0.1", 0))
    server = running.server(app, drain=1)
    worker.start()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a model is only held up by more, where other tests run beside it
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[bound])))
    thread.start()
    try:
        yield Inside(f"http://127.0.0.1:{bound.getsockname()[1]}", lines)
    finally:
        server.should_exit = True
        thread.join(20)
        assert worker.close(20)
        bound.close()
        torch.set_num_threads(threads)


@dataclass
class Served:
    """A server in a process; ``log`` is what it wrote to standard error."""

    process: subprocess.Popen[str]
    url: str
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text()


@contextmanager
def serving(folder: Path, model: Path, *options: str, **environment: str) -> Iterator[Served]:
    """Starts ``lmgraft serve`` on a free port; ``folder`` takes its log."""
    log = folder / "serve.log"
    command = [sys.executable, "-m", "lmgraft", "serve", str(model), "--port", "0", *options]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True, env=env)
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.search(r"http://\S+?:\d+", said)
        assert found, f"{said}\n{log.read_text()}"
        yield Served(process, found[0], log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()
