"""The real command line without its start-up: a parent that has imported everything forks a child for each command.

Run as a script this is the parent, which must stay single-threaded and compute nothing, so that a fork copies no lock;
imported by tests it is the client. The child has its own folder, environment, limits and open files, and may be told
to kill itself in the middle of a stage.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["NOT_POSSIBLE", "Command", "Done", "WarmCli", "text_of", "wait_for"]

HEAVY = """
    torch torch._dynamo torch.nn.functional numpy pyarrow pyarrow.parquet datasets tokenizers safetensors.torch
    rich.table rich.progress jinja2 hydra._internal.hydra hydra.core.global_hydra hydra_plugins.lmgraft_hydra.source
    sqlite3 lmgraft.api lmgraft.runner lmgraft.loading lmgraft.report lmgraft.cli.explain lmgraft.cli.generate
    lmgraft.cli.new lmgraft.cli.plugins lmgraft.cli.recipes lmgraft.cli.report lmgraft.cli.rerun lmgraft.cli.run
    lmgraft.cli.runs lmgraft.cli.store lmgraft.cli.completion lmgraft.cli._sweep lmgraft.stages.corpus
    lmgraft.stages.tokenizer lmgraft.stages.tokens lmgraft.stages.train lmgraft.stages.evaluate
    lmgraft.training.loop lmgraft_adamw.adamw lmgraft_byte_bpe.tokenizer lmgraft_causal_lm.objective
    lmgraft_exact_dedup.exact_dedup lmgraft_files.source lmgraft_length.length lmgraft_decoders.architecture
    lmgraft_normal.normal lmgraft_perplexity.perplexity lmgraft_python_docs.source lmgraft_schedules.schedules
    lmgraft_data_parallel.single
"""
#: Environment that would change what a test sees.
CLEARED = ("LMGRAFT_CACHE", "WORLD_SIZE", "RANK", "COLUMNS", "FORCE_COLOR", "NO_COLOR")
#: A child that could not be set up as asked (no name spaces here): the test is skipped.
NOT_POSSIBLE = 77
CALLS = ("chmod", "fsync", "link", "mkdir", "open", "rename", "replace", "rmdir", "symlink", "unlink", "utime")


# --- the client -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended; ``code`` is negative for a signal."""

    code: int
    out: str
    err: str

    def check(self) -> Done:
        assert self.code == 0, f"exit code {self.code}\n{self.out}\n{self.err}"
        return self

    def problem(self) -> str:
        """The message of a refused input: three lines for each problem, no traceback, exit code 2."""
        assert self.code == 2, f"exit code {self.code}\n{self.out}\n{self.err}"
        lines = self.err.strip().splitlines()
        begins = [number for number, line in enumerate(lines) if line.startswith("  because: ")]
        assert begins, self.err
        for number in begins:
            assert lines[number - 1].strip()
            assert lines[number + 1].startswith("  try: "), self.err
        assert "Traceback" not in self.err
        return "\n".join(line for at in begins for line in lines[at - 1 : at + 2])


@dataclass(slots=True)
class Command:
    """A command at work."""

    cli: WarmCli
    pid: int
    number: int
    done: Done | None = field(default=None)

    def kill(self, which: int = signal.SIGKILL) -> None:
        os.kill(self.pid, which)

    def finish(self) -> Done:
        if self.done is None:
            code = self.cli.ask({"wait": self.pid})["code"]
            out, err = (self.cli.file(self.number, stream) for stream in ("out", "err"))
            self.done = Done(code, text_of(out), text_of(err))
        return self.done

    def out(self) -> str:
        return text_of(self.cli.file(self.number, "out"))

    def err(self) -> str:
        return text_of(self.cli.file(self.number, "err"))


class WarmCli:
    """``cli(["run", ...], cwd=...)`` runs a command to its end; ``start`` gives it to be killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        environment = {name: value for name, value in os.environ.items() if name not in CLEARED}
        environment |= {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        )

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        return answer

    def file(self, number: int, stream: str) -> Path:
        return self._folder / f"{number}.{stream}"

    def start(self, args: Sequence[object], cwd: Path, **how: Any) -> Command:
        """``how``: ``env``; ``path``, folders put on sys.path; ``aim``, a stage in which the child is to be killed,
        with ``call`` (before the n-th call into the file system from its beginning on) or ``seconds``, or ``calls``
        alone, a file for how many calls each stage makes;
        ``file_bytes``, the limit on the size of a file; ``tmpfs``, a folder, bytes, read-only; ``seconds``, its time
        at most."""
        self._count += 1
        number = self._count
        request = {
            "args": [str(arg) for arg in args],
            "cwd": str(cwd),
            "out": str(self.file(number, "out")),
            "err": str(self.file(number, "err")),
            **how,
        }
        return Command(self, self.ask(request)["pid"], number)

    def __call__(self, args: Sequence[object], cwd: Path, **how: Any) -> Done:
        return self.start(args, cwd, **how).finish()

    def close(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(30)


def wait_for(what: Callable[[], object], command: Command) -> None:
    """Until ``what`` holds, while a command is at work."""
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end, command.err()
        time.sleep(0.01)


def text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")


# --- the parent -----------------------------------------------------------------------------------------------------


def serve() -> None:
    for name in HEAVY.split():
        importlib.import_module(name)
    tasks = [Path(f"/proc/self/task/{task}/comm").read_text().strip() for task in os.listdir("/proc/self/task")]
    # jemalloc, inside pyarrow, knows about forks and looks after its own locks.
    others = [name for name in tasks if name != "jemalloc_bg_thd"][1:]
    assert not others, f"a fork would copy the locks of other threads: {others}"
    gc.freeze()
    answers = os.dup(1)
    os.set_inheritable(answers, False)
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        answer = {"code": _wait(request["wait"])} if "wait" in request else {"pid": _fork(request, answers)}
        os.write(answers, json.dumps(answer).encode() + b"\n")


def _wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _fork(request: dict[str, Any], answers: int) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.close(answers)
        _prepare(request)
        code = _main(request["args"])
        if "calls" in request.get("aim", {}):
            Path(request["aim"]["calls"]).write_text(json.dumps(_assassin.calls))
    except BaseException:
        traceback.print_exc()
    finally:
        _end(code)
    return 0


def _end(code: int) -> None:
    """As the interpreter ends, in its order: a thread that nobody ends would hold the command up, and must show."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if not stream.closed:
            stream.flush()
    os._exit(code)


def _main(args: list[str]) -> int:
    from lmgraft.cli import main

    try:
        main(args)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _prepare(request: dict[str, Any]) -> None:
    for number, name in ((1, request["out"]), (2, request["err"])):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    os.chdir(request["cwd"])
    os.environ.update(request.get("env", {}))
    for place in request.get("path", ()):
        sys.path.insert(0, place)
    signal.alarm(int(request.get("seconds", 120)))
    if "file_bytes" in request:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_bytes"], request["file_bytes"]))
    if "tmpfs" in request:
        _mount(*request["tmpfs"])
    if "aim" in request:
        _assassin.watch(request["aim"])


class _Assassin:
    """Counts calls into the file system, and kills this process before a call or a while after a stage has begun.

    The stage is learnt from what the process writes: run.json, put into place by ``os.replace``.
    """

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        """Stage -> calls since it began, as far as it is counted."""
        self.stage = ""
        self.aim: dict[str, Any] = {}

    def watch(self, aim: dict[str, Any]) -> None:
        self.aim = aim
        for name in CALLS:
            real = getattr(os, name)
            counted = self._counted(name, real)
            for able in (os.supports_fd, os.supports_dir_fd, os.supports_follow_symlinks):
                if real in able:
                    able.add(counted)
            setattr(os, name, counted)

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls[self.stage] = self.calls.get(self.stage, 0) + 1
            # Where the stage ends before, the call is one of the next stages.
            if self.aim.get("stage") in self.calls and self.aim.get("call") == self._since_aim():
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(60)
            result = real(*args, **kwargs)
            if name == "replace" and os.fspath(args[1]).endswith("run.json"):
                self._look(args[1])
            return result

        return call

    def _since_aim(self) -> int:
        order = list(self.calls)
        return sum(self.calls[stage] for stage in order[order.index(self.aim["stage"]) :])

    def _look(self, manifest: Path) -> None:
        stages = json.loads(Path(manifest).read_text())["stages"]
        running = next((name for name, facts in stages.items() if facts["status"] == "running"), self.stage)
        if running != self.stage:
            self.stage = running
            if running == self.aim.get("stage") and "seconds" in self.aim:
                _kill_parent_after(self.aim["seconds"])


def _kill_parent_after(seconds: float) -> None:
    parent = os.getpid()
    if os.fork():
        return
    time.sleep(seconds)
    if os.getppid() == parent:
        os.kill(parent, signal.SIGKILL)
    os._exit(0)


_assassin = _Assassin()


def _mount(folder: str, size: int, read_only: bool) -> None:
    """A small or read-only file system that only this process sees."""
    libc = ctypes.CDLL(None, use_errno=True)
    new_mounts, new_user, private, read = 0x20000, 0x10000000, (1 << 18) | 0x4000, 1
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(new_mounts | (0 if uid == 0 else new_user)):
        os._exit(NOT_POSSIBLE)
    if uid:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    failed = libc.mount(b"none", b"/", None, private, None) or libc.mount(
        b"tmpfs", folder.encode(), b"tmpfs", read if read_only else 0, f"size={size},mode=0777".encode()
    )
    if failed:
        os._exit(NOT_POSSIBLE)


if __name__ == "__main__":
    serve()
