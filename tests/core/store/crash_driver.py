"""Builds one key again and again in forked children that are killed or paused at their n-th call into the system.

Run by test_crash.py in a process of its own (forking is safe only where there are no threads): prints JSON.
"""

from __future__ import annotations

import builtins
import io
import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lmgraft.errors import Fault
from lmgraft.store import Store, folder_manifest
from lmgraft.store import __file__ as STORE  # noqa: N812

KEY = "0123456789abcdef"
CALLS = ("open", "write", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir", "chmod", "utime")
#: Seconds: a dead lease whose holder was killed before it could write its name is waited for this long.
TTL, BEAT, POLL = 0.15, 0.03, 0.01
LOST = 3


def build(root: Path, text: str = "same") -> None:
    """A stage of three units with a sidecar, as careful as a stage has to be and no more."""
    with Store(root, ttl=TTL, beat=BEAT, poll=POLL).build(KEY, loose="loose", describe={"stage": "s"}) as job:
        if job.record is not None:
            return
        for i in range(3):
            unit = job.work / f"unit{i}"
            if not unit.exists():
                (job.work / "tmp").write_text(f"{text} {i}\n" * 100)
                os.replace(job.work / "tmp", unit)
            with open(job.sidecar / "metrics.jsonl", "a") as file:
                file.write(f'{{"unit": {i}}}\n')
        (job.out / "deep" / "er").mkdir(parents=True)
        for i in range(3):
            (job.out / "deep" / f"{i}.txt").write_text((job.work / f"unit{i}").read_text())
        (job.out / "top.txt").write_text(text)
        job.alive()
        job.publish("corpus", {"n": 3}, 1.0)


def signal_at(number: int, which: int) -> None:
    """Sends this process a signal just before its ``number``-th call."""
    count = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), which)
            return real(*args, **kwargs)

        return call

    for name in CALLS:
        wrapped = counted(getattr(os, name))
        if getattr(os, name) in os.supports_fd:
            os.supports_fd.add(wrapped)
        setattr(os, name, wrapped)
    builtins.open = io.open = counted(builtins.open)


def kill_at_line(number: int) -> None:
    """Kills this process before the ``number``-th line that the store's own code executes."""
    count = 0
    home = os.path.dirname(STORE)

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.startswith(home):
            return None
        if event == "line":
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)


def child(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except Fault:
            code = LOST
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return pid


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def state(root: Path) -> dict[str, Any]:
    """What anybody would see now."""
    store = Store(root)
    record = store.lookup(KEY)
    seen: dict[str, Any] = {"problems": [str(problem) for problem in store.verify()], "digest": None}
    if record is not None:
        seen["digest"] = record.digest
        seen["true_digest"] = folder_manifest(record.path).digest
        seen["sidecar"] = sorted(path.name for path in record.sidecar.iterdir())
        seen["meta"] = record.meta
    seen["left"] = sorted(os.listdir(root / "work")) if (root / "work").exists() else []
    return seen


def killed(base: Path, arm: Callable[[int], None], points: list[int]) -> list[dict[str, Any]]:
    """For each point: killed there once, killed there once more while going on, then left to finish."""
    results = []
    for number in points:
        root = Path(tempfile.mkdtemp(dir=base)) / "store"

        def doomed(number: int = number, root: Path = root) -> None:
            arm(number)
            build(root)

        first = ended(child(doomed))
        after_one = state(root)
        second = ended(child(doomed))
        after_two = state(root)
        last = ended(child(lambda root=root: build(root)))  # type: ignore[misc]
        codes = [first, second, last]
        results.append({"number": number, "codes": codes, "seen": [after_one, after_two], "end": state(root)})
        if first == 0:  # it had fewer calls than that
            break
    return results


def paused(base: Path, points: list[int]) -> list[dict[str, Any]]:
    """For each point: paused there, the key built by another to other bytes, and let go on."""
    results = []
    for number in points:
        root = Path(tempfile.mkdtemp(dir=base)) / "store"

        def slow(number: int = number, root: Path = root) -> None:
            signal_at(number, signal.SIGSTOP)
            build(root, "slow")

        pid = child(slow)
        _, status = os.waitpid(pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            break
        other = ended(child(lambda root=root: build(root, "other")))  # type: ignore[misc]
        before = state(root)
        os.kill(pid, signal.SIGCONT)
        results.append({"number": number, "other": other, "before": before, "slow": ended(pid), "end": state(root)})
    return results


def main() -> None:
    mode, base, stride = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    points = list(range(1, 10_000, stride))
    if mode == "calls":
        print(json.dumps(killed(base, lambda n: signal_at(n, signal.SIGKILL), points)))
    elif mode == "lines":
        print(json.dumps(killed(base, kill_at_line, points)))
    else:
        print(json.dumps(paused(base, points)))


if __name__ == "__main__":
    main()
