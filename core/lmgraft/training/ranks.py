"""Ranks: several processes that step one model together, started here or joined under torchrun or SLURM.

A parallelism part hands over a body; it runs on every rank inside a process group of torch.distributed. Local ranks
are spawned processes. Under torchrun (``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR`` in the environment) rank 0 runs the
recipe, and the other ranks wait for the bodies that rank 0 sends them (``lmgraft.training.joining``).

A rank that fails or is killed ends the others: collectives would wait for it for ever. Its error is the one that is
raised, not those of the ranks that lost their peer through it.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from lmgraft.errors import Fault, Problem, Stopped, UserError
from lmgraft.spawning import main_hidden

__all__ = ["error_record", "joined", "launch", "local_rank", "process_group", "read_error", "wanted_device"]

Body = Callable[[], None]

#: Seconds that the other ranks get to fail by themselves, with an error that may say more, before they are killed.
GRACE = 2.0
#: A collective waits this long at most. One rank may write a checkpoint of many gigabytes while the others wait.
PATIENCE = timedelta(hours=2)

#: Errors of the disk that are the user's to mend: no traceback is needed for them.
MENDABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EMFILE}
#: What is to be said of a rank that was killed.
AFTER = "(for want of memory?); the same command goes on from the last checkpoint"


def joined() -> bool:
    """Was this process started as one of several, by torchrun or by SLURM with torch's variables set?"""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ and "MASTER_ADDR" in os.environ


def local_rank() -> int:
    """This process's number among those of its machine, which is the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or "0")


def wanted_device(work: Any) -> str | None:
    """The device of the plan that a stage's work will make; None where the work does not say. A parallelism part needs
    it before there is a plan: the number of ranks depends on it."""
    held = [work, *getattr(work, "args", ()), *getattr(work, "keywords", {}).values()]
    return next((part.device for part in held if isinstance(getattr(part, "device", None), str)), None)


def launch(body: Body, *, ranks: int, device: str, threads: int | None = None) -> None:
    """Runs ``body`` on ``ranks`` ranks and returns when all are done. ``body`` is called without arguments, inside the
    default process group of torch.distributed; it is picklable: a module's function, or functools.partial of one.

    ``device`` is ``cpu`` (gloo) or ``cuda`` (NCCL, one GPU a rank). ``threads`` of a tensor operation in each rank;
    None shares the cores out. Raises the first error of a rank: UserError and Stopped as they are, others as a
    :class:`~lmgraft.errors.Fault` that names the rank, with its traceback; a rank that was killed by a signal too.
    """
    from lmgraft.training import joining

    if joined():
        joining.lead(body, ranks=ranks, device=device, threads=threads)
        return
    with tempfile.TemporaryDirectory(prefix="lmgraft-ranks-") as folder:
        _spawn(body, ranks, device, threads or max(1, _cores() // ranks), Path(folder))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- the parent -------------------------------------------------------------------------------------------------------


def _spawn(body: Body, ranks: int, device: str, threads: int, folder: Path) -> None:
    context = get_context("spawn")  # a forked process would inherit threads that hold locks
    workers: list[BaseProcess] = []
    try:
        for rank in range(ranks):
            args = (body, rank, ranks, device, threads, folder, os.getpid())
            worker: BaseProcess = context.Process(target=_rank, args=args, name=f"lmgraft rank {rank}")
            with _threads_in_environment(threads), main_hidden():
                worker.start()
            workers.append(worker)
        failed = _wait(workers)
        if failed:
            raise _error(workers, folder)
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


@contextmanager
def _threads_in_environment(threads: int) -> Iterator[None]:
    """OpenMP reads it when its library is loaded, before any of our code runs in the new process."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _wait(workers: list[BaseProcess]) -> bool:
    """Waits for all, or for the first failure and a moment longer. True where one failed."""
    deadline: float | None = None
    running = list(workers)
    while running:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        ended = connection.wait([worker.sentinel for worker in running], timeout=left)
        for worker in [worker for worker in running if worker.sentinel in ended]:
            worker.join()
            running.remove(worker)
            if worker.exitcode and deadline is None:
                deadline = time.monotonic() + GRACE
        if deadline is not None and time.monotonic() >= deadline:
            break
    return deadline is not None


def _error(workers: list[BaseProcess], folder: Path) -> Exception:
    """The error that came first: ranks that lost a peer through it fail too, and later."""
    ranks = len(workers)
    for rank, worker in enumerate(workers):
        if worker.exitcode is not None and worker.exitcode < 0 and not _told(folder, rank):
            return Fault(f"rank {rank} of {ranks} was killed by {_signal(-worker.exitcode)} {AFTER}")
    told = sorted((path.stat().st_mtime_ns, rank) for rank in range(ranks) if (path := _told(folder, rank)))
    for _, rank in told:
        return read_error(json.loads(_file(folder, rank).read_text(encoding="utf-8")), rank, ranks)
    codes = ", ".join(f"rank {rank}: {worker.exitcode}" for rank, worker in enumerate(workers))
    return Fault(f"the ranks ended without a word (exit codes: {codes})")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return f"signal {number}"


def _file(folder: Path, rank: int) -> Path:
    return folder / f"error-{rank}.json"


def _told(folder: Path, rank: int) -> Path | None:
    path = _file(folder, rank)
    return path if path.is_file() else None


def error_record(error: BaseException) -> dict[str, Any]:
    """An error as JSON: ranks tell of errors by files and stores, never by pickles."""
    if isinstance(error, UserError):
        problems = [[problem.fact, problem.cause, problem.remedy] for problem in error.problems]
        return {"kind": "user", "problems": problems}
    if isinstance(error, Stopped):
        return {"kind": "stopped", "text": str(error)}
    if isinstance(error, OSError) and error.errno in MENDABLE:  # a full disk is told as one, not as a fault of ours
        name = None if error.filename is None else os.fsdecode(error.filename)
        return {"kind": "os", "errno": error.errno, "text": error.strerror, "file": name}
    text = "".join(traceback.format_exception(error)).rstrip()
    return {"kind": "fault", "text": str(error) if isinstance(error, Fault) else text}


def read_error(record: Mapping[str, Any], rank: int, ranks: int) -> Exception:
    """What :func:`error_record` wrote, as an error to raise."""
    if record["kind"] == "user":
        return UserError(Problem(*problem) for problem in record["problems"])
    if record["kind"] == "stopped":
        return Stopped(record["text"])
    if record["kind"] == "os":
        return OSError(record["errno"], record["text"], record["file"])
    return Fault(f"rank {rank} of {ranks}: {record['text']}")


# --- a rank -----------------------------------------------------------------------------------------------------------


def _rank(body: Body, rank: int, ranks: int, device: str, threads: int, folder: Path, parent: int) -> None:
    # Signals go to the whole group at once. The stop file tells the ranks, all of them at one step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_die_with, args=(parent,), name="lmgraft-watch", daemon=True).start()
    os.environ["LOCAL_RANK"] = str(rank)
    try:
        from torch._C._distributed_c10d import FileStore  # torch.distributed has it too, and does not say so

        store = FileStore(str(folder / "rendezvous"), ranks)
        with process_group(store, rank, ranks, device, threads):
            body()
    except BaseException as error:  # whatever it is, the parent must know
        partial = folder / f"error-{rank}.partial"
        partial.write_text(json.dumps(error_record(error)), encoding="utf-8")
        partial.replace(_file(folder, rank))
        sys.stderr.flush()
        os._exit(1)  # destroying the group could wait for peers that are gone
    # All is written. Threads of libraries abort a process now and then while its interpreter ends ("terminate called
    # without an active exception"), which would count as a rank that was killed.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _die_with(parent: int) -> None:
    """A parent that was killed cannot end its ranks; a rank notices that it has another parent now."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


@contextmanager
def process_group(store: Any, rank: int, ranks: int, device: str, threads: int | None) -> Iterator[None]:
    """The default group of torch.distributed over ``store``, and settings that make a rank's work repeatable."""
    import torch
    from torch import distributed

    from lmgraft.training.settings import repeatable

    if device == "cuda":
        torch.cuda.set_device(local_rank())
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=ranks, timeout=PATIENCE)
    with repeatable(threads):
        yield
    distributed.barrier()  # nobody leaves while another still reads
    distributed.destroy_process_group()
