"""Runs the corpus stage to be killed: imports everything once and forks a child, in a group of its own, for each run.

A line of standard input is a run: folder of text, root, executor, workers. It answers with the child's process id, and
with its exit code once it has ended. What the child is at is in the file ``phase`` of the root.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import corpus_context
from corpus_parts import LinesConfig, Plain, ShortConfig, SlowConfig
from lmgraft import spool
from lmgraft.stages import _corpus_jobs, _corpus_units, _corpus_wise, corpus
from lmgraft.stages.executors import Executor

FILTERS = {
    "short": ShortConfig(part="short"),
    "slow": SlowConfig(part="slow", seconds=0.005),
    "twins": Plain(part="twins"),
    "tidy": Plain(part="tidy"),
    "twins2": Plain(part="twins"),
}


class Context(corpus_context.Context):
    """Tells what it is at, and when each began."""

    @contextmanager
    def progress(self, title: str, total: float | None, unit: str) -> Iterator[Any]:
        now = f"{title}:{sum(earlier.startswith(title) for earlier in self.bars)}"
        with (self.work.parent / "phase").open("a") as log:
            log.write(f"{now} {time.monotonic()}\n")
        with super().progress(now, total, unit) as bar:
            yield bar


def run(text: str, root: str, executor: str, workers: int) -> None:
    # Small tasks, runs and blocks: many of each from little text.
    _corpus_units.TASK_BYTES, corpus.SMALL_BYTES, _corpus_jobs.BATCH_DOCUMENTS = 1500, 0, 64
    spool.FAN_IN, _corpus_wise.SORTER_MB = 3, 1
    config = corpus_context.stage(
        {"text": LinesConfig(part="lines", path=text)},
        FILTERS,
        workers=workers,
        executor=Executor(executor),
        memory_mb=2,
        validation_bytes=600,
        shard_bytes=4096,
    )
    stage, context = corpus.Corpus(config), Context(Path(root), {"sources": config.sources, "filters": config.filters})
    stage.identity(context)
    stage.run(context)
    (Path(root) / "phase").unlink()


def serve() -> None:
    for line in iter(sys.stdin.readline, ""):
        text, root, executor, workers = json.loads(line)
        Path(root).mkdir(exist_ok=True)
        pid = os.fork()
        if not pid:
            code = 1
            try:
                os.setpgid(0, 0)
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(2, 1)
                run(text, root, executor, workers)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.setpgid(pid, pid)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
