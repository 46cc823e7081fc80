"""Under torchrun or SLURM: rank 0 runs the recipe, the others wait for the bodies it sends.

The job's own store (a TCPStore at ``MASTER_ADDR:MASTER_PORT``) carries the bodies, pickled, from rank 0 to processes
of the same job and user; signs of life of every rank; the first error, as JSON; and, before any work, the proof that
all ranks see one folder: a file of a random name that rank 0 writes into the artifact store and every other rank must
find there.

torchrun ends all processes when one fails, SLURM does with ``srun --kill-on-bad-exit=1``. Before that each rank looks
after itself: one that hears of an error, or hears nothing of rank 0 any more, ends although it waits in a collective.
"""

from __future__ import annotations

import json
import os
import pickle
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lmgraft.errors import EXIT_FAULT, Fault, LmgraftError, Problem, Stopped, UserError
from lmgraft.training import ranks as local
from lmgraft.training.heartbeat import SILENCE, Pulse, beating
from lmgraft.training.ranks import joined

__all__ = ["follow", "joined", "lead", "leading", "prove", "rank", "world"]

POLL = 0.1
#: Seconds that rank 0 waits at the end for the others to hear of it, where it is the host of the store.
FAREWELL = 5.0

_job: _Job | None = None


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def world() -> int:
    """How many processes the job was started with; 1 outside of one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


class _Job:
    """This process's place in the job."""

    def __init__(self) -> None:
        # torchrun hosts the store itself; elsewhere rank 0 does.
        self.host = rank() == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        self._tcp = _connect(host=self.host)
        self.store = self.under("")
        self.ended = threading.Event()
        self.sent = 0
        beating(self.under("", apart=True), rank(), self.ended)

    def under(self, name: str, *, apart: bool = False) -> Any:
        """The job's store for keys under ``name``; ``apart`` on a connection of its own."""
        from torch._C._distributed_c10d import PrefixStore

        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return PrefixStore(f"lmgraft/{attempt}/{name}", _connect(host=False) if apart else self._tcp)

    def tell(self, error: BaseException) -> dict[str, Any]:
        """Puts an error where the others see it, unless there is one already; gives the one that came first."""
        mine = {**local.error_record(error), "rank": rank()}
        self.store.set(f"told/{rank()}", "1")
        first: dict[str, Any] = json.loads(self.store.compare_set("error", "", json.dumps(mine)))
        return first


def _connect(*, host: bool) -> Any:
    from torch._C._distributed_c10d import TCPStore  # torch.distributed has it too, and does not say so

    address, port = os.environ["MASTER_ADDR"], int(os.environ.get("MASTER_PORT", "29500"))
    return TCPStore(address, port, world(), is_master=host, wait_for_workers=False)


# --- rank 0 -----------------------------------------------------------------------------------------------------------


@contextmanager
def leading() -> Iterator[None]:
    """Rank 0, around all that it does: the others follow as long as this lasts."""
    global _job
    job = _job = _Job()
    try:
        yield
    finally:
        job.store.set("end", "1")
        if job.host:
            _wait_for_farewells(job)
        job.ended.set()
        _job = None


def _wait_for_farewells(job: _Job) -> None:
    keys = [f"bye/{other}" for other in range(1, world())]
    deadline = time.monotonic() + FAREWELL
    while not job.store.check(keys) and time.monotonic() < deadline:
        time.sleep(POLL)


def prove(folder: Path) -> None:
    """Rank 0, before any work: do all ranks see ``folder``?

    :raises UserError: one does not.
    """
    assert _job is not None, "rank 0 leads"
    store = _job.store
    folder.mkdir(parents=True, exist_ok=True)
    proof = folder / f".ranks-{secrets.token_hex(16)}"
    proof.write_text("seen by every rank of one job\n", encoding="ascii")
    try:
        store.set("proof", str(proof))
        blind = [other for other in range(1, world()) if not _seen(store, other)]
    finally:
        proof.unlink(missing_ok=True)
    if blind:
        names = ", ".join(map(str, blind))
        cause = f"rank {names} of {world()} does not see the file that rank 0 wrote there"
        remedy = "give all nodes one shared folder: store.dir=/shared/folder"
        raise UserError(Problem(f"the store {folder} is not shared by all ranks", cause, remedy))


def _seen(store: Any, other: int) -> bool:
    try:
        return bool(store.get(f"proof/{other}") == b"seen")
    except RuntimeError as error:
        raise Fault(f"rank {other} of {world()} did not come ({error})") from None


def lead(body: local.Body, *, ranks: int, device: str, threads: int | None) -> None:
    """Rank 0: sends ``body`` to the others and runs it with them. Errors are those of ``ranks.launch``."""
    job = _job
    if job is None:
        cause = "only `lmgraft run` knows how ranks that were started elsewhere work together"
        remedy = "torchrun ... -m lmgraft run RECIPE, or start this program without torchrun"
        raise UserError(Problem(f"a layout of {ranks} ranks inside a torchrun job", cause, remedy))
    if ranks != world():
        cause = f"the job was started with {world()} processes"
        remedy = f"start torchrun with --nproc-per-node and --nnodes for {ranks} processes, or set ranks={world()}"
        raise UserError(Problem(f"the layout takes {ranks} ranks", cause, remedy))
    job.sent += 1
    job.store.set(f"body/{job.sent}", pickle.dumps((body, device, threads)))
    try:
        _run(job, body, job.sent, device, threads)
    except Stopped:  # the others stop by themselves
        raise
    except LmgraftError as error:
        job.tell(error)
        raise
    except Exception as error:
        raise _first(job, error) from None


def _first(job: _Job, error: Exception) -> Exception:
    """The error of the rank that failed first, which may have taken rank 0 and others with it."""
    first = job.tell(error)
    if first["rank"] == 0 or first["kind"] == "fault":  # one that says nothing of a rank that could not say anything
        for lost in Pulse(job.store, range(1, world())).stopped():
            if not job.store.check([f"told/{lost}"]):
                return Fault(f"rank {lost} of {world()} ended without a word: it was killed {local.AFTER}")
    return local.read_error(first, first["rank"], world())


# --- the others -------------------------------------------------------------------------------------------------------


def follow() -> int:
    """The other ranks: work on what rank 0 sends until it says that the run has ended. Gives the exit code."""
    # torchrun hands signals on to every process. The stop file tells the ranks, all of them at one step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    job = _Job()
    try:
        return _follow(job)
    except Fault as error:
        print(error, file=sys.stderr)
        return EXIT_FAULT
    finally:
        job.ended.set()
        with suppress(RuntimeError):  # the store may be gone already
            job.store.set(f"bye/{rank()}", "1")


def _follow(job: _Job) -> int:
    if _until(job, "proof"):
        job.store.set(f"proof/{rank()}", "seen" if Path(job.store.get("proof").decode()).is_file() else "not seen")
    number = 1
    while _until(job, f"body/{number}"):
        body, device, threads = pickle.loads(job.store.get(f"body/{number}"))
        try:
            _run(job, body, number, device, threads)
        except Stopped:
            _until(job, "end")  # rank 0 stops as well, and is the one to say so
            break
        except Exception as error:
            job.tell(error)
            return EXIT_FAULT  # rank 0 tells it
        number += 1
    return 0


def _until(job: _Job, key: str) -> bool:
    """True once ``key`` is there, False where the run ended without it.

    :raises Fault: rank 0 is gone.
    """
    try:
        pulse: Pulse | None = None
        while not job.store.check([key]):
            if job.store.check(["end"]):
                return False
            if pulse is None and job.store.check(["beat/0"]):
                pulse = Pulse(job.store, [0])
            if pulse is not None and pulse.silent():
                raise Fault(f"rank {rank()}: nothing was heard of rank 0 for {SILENCE:.0f} seconds")
            time.sleep(POLL)
        return True
    except RuntimeError as error:  # the store went with its host
        raise Fault(f"rank {rank()}: rank 0 ended without a word ({error})") from None


# --- all of them ------------------------------------------------------------------------------------------------------


def _run(job: _Job, body: local.Body, number: int, device: str, threads: int | None) -> None:
    done = threading.Event()
    watch = threading.Thread(target=_watch, args=(job, done), name="lmgraft-watch", daemon=True)
    watch.start()
    try:
        with local.process_group(job.under(f"group/{number}"), rank(), world(), device, threads):
            body()
    finally:
        done.set()
        watch.join()


def _watch(job: _Job, done: threading.Event) -> None:
    """Ends a rank that waits for one that is not there any more. Most fail by themselves before that: a connection
    breaks. NCCL may wait for ever, and so may a rank that computes."""
    try:
        store = job.under("", apart=True)
        pulse = Pulse(store, range(1, world()) if rank() == 0 else [0])
        while not done.wait(5 * POLL):
            word = _trouble(store, pulse)
            if word is not None and not done.wait(local.GRACE + 3):
                _leave(word)
    except RuntimeError:  # the store went with its host
        if not done.wait(local.GRACE):
            _leave(Fault("the host of the job's store is gone"))


def _trouble(store: Any, pulse: Pulse) -> Exception | None:
    if store.check(["error"]):
        record = json.loads(store.get("error"))
        return local.read_error(record, record["rank"], world())
    if rank() > 0 and store.check(["end"]):
        return Stopped("rank 0 has ended the run")
    for lost in pulse.silent():
        return Fault(f"rank {lost} of {world()}: nothing was heard of it for {SILENCE:.0f} seconds")
    return None


def _leave(error: Exception) -> None:
    """At once, from a thread: the main one may be inside a collective that never returns."""
    if rank() == 0:
        print(error, file=sys.stderr, flush=True)
    os._exit(error.exit_code if isinstance(error, LmgraftError) else EXIT_FAULT)
