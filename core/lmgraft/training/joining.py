"""Under torchrun or SLURM: rank 0 runs the recipe, the others wait for the bodies it sends.

The job's own store (a TCPStore at ``MASTER_ADDR:MASTER_PORT``) carries three things: the bodies, pickled, from rank 0
to processes of the same job and user; rank 0's heartbeat; and, before any work, the proof that all ranks see one
folder: a file of a random name that rank 0 writes into the artifact store and every other rank must find there.
"""

from __future__ import annotations

import json
import os
import pickle
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lmgraft.errors import Fault, Problem, UserError
from lmgraft.training import ranks as local

__all__ = ["follow", "joined", "lead", "leading", "rank"]

#: Seconds between two beats of rank 0, and without one after which it is gone.
BEAT = 2.0
SILENCE = 60.0
POLL = 0.1

_store: Any = None
_sent = 0


def joined() -> bool:
    """Was this process started as one of several, by torchrun or by SLURM with torch's variables set?"""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ and "MASTER_ADDR" in os.environ


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def world() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _job() -> Any:
    """The job's store, connected once; ours lie under a prefix of their own."""
    global _store
    if _store is None:
        from torch._C._distributed_c10d import PrefixStore, TCPStore  # torch.distributed has them, and does not say so

        # torchrun hosts the store itself; elsewhere rank 0 does.
        host = rank() == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        address, port = os.environ["MASTER_ADDR"], int(os.environ.get("MASTER_PORT", "29500"))
        tcp = TCPStore(address, port, world(), is_master=host, wait_for_workers=False)
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        _store = PrefixStore(f"lmgraft/{attempt}", tcp)
    return _store


@contextmanager
def leading(folder: Path) -> Iterator[None]:
    """Rank 0, around a run: the heartbeat, the proof that ``folder`` is shared, and the word at the end.

    :raises UserError: a rank does not see ``folder``.
    """
    store = _job()
    ended = threading.Event()
    threading.Thread(target=_beat, args=(store, ended), name="lmgraft-heartbeat", daemon=True).start()
    try:
        _prove(store, folder)
        yield
    finally:
        ended.set()
        store.set("end", "1")


def _beat(store: Any, ended: threading.Event) -> None:
    number = 0
    while not ended.is_set():
        number += 1
        store.set("beat", str(number))
        ended.wait(BEAT)


def _prove(store: Any, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    proof = folder / f".ranks-{secrets.token_hex(16)}"
    proof.write_text("seen by every rank of one job\n", encoding="ascii")
    try:
        store.set("proof", str(proof))
        blind = []
        for other in range(1, world()):
            store.wait([f"proof/{other}"])
            if store.get(f"proof/{other}") != b"seen":
                blind.append(other)
    finally:
        proof.unlink(missing_ok=True)
    if blind:
        names = ", ".join(map(str, blind))
        cause = f"rank {names} of {world()} does not see the file that rank 0 wrote there"
        remedy = "give all nodes one shared folder: store.dir=/shared/folder"
        raise UserError(Problem(f"the store {folder} is not shared by all ranks", cause, remedy))


def lead(body: local.Body, *, ranks: int, device: str, threads: int | None) -> None:
    """Rank 0: sends ``body`` to the others and runs it with them."""
    global _sent
    if ranks != world():
        cause = f"the job was started with {world()} processes"
        remedy = f"start torchrun with --nproc-per-node and --nnodes for {ranks} processes, or set ranks={world()}"
        raise UserError(Problem(f"the layout takes {ranks} ranks", cause, remedy))
    store = _job()
    _sent += 1
    store.set(f"body/{_sent}", pickle.dumps((body, device, threads)))
    _run(body, _sent, device, threads)


def _run(body: local.Body, number: int, device: str, threads: int | None) -> None:
    from torch._C._distributed_c10d import PrefixStore

    group = PrefixStore(f"group/{number}", _job())
    with local.process_group(group, rank(), world(), device, threads):
        body()


def follow() -> int:
    """The other ranks: work on what rank 0 sends until it says that the run has ended. Gives the exit code."""
    store = _job()
    watch = _Heartbeat(store)
    watch.until("proof")
    store.set(f"proof/{rank()}", "seen" if Path(store.get("proof").decode()).is_file() else "not seen")
    number = 0
    while watch.until(f"body/{number + 1}"):
        number += 1
        body, device, threads = pickle.loads(store.get(f"body/{number}"))
        try:
            _run(body, number, device, threads)
        except Exception as error:
            store.set(f"error/{rank()}", json.dumps(local.error_record(error)))
            raise
    return 0


class _Heartbeat:
    """Waits for keys as long as rank 0 lives."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._last = b""
        self._seen = time.monotonic()

    def until(self, key: str) -> bool:
        """True once ``key`` is there, False where the run ended without it."""
        while not self._store.check([key]):
            if self._store.check(["end"]):
                return False
            self._listen()
            time.sleep(POLL)
        return True

    def _listen(self) -> None:
        beat = self._store.get("beat") if self._store.check(["beat"]) else b""
        if beat != self._last:
            self._last, self._seen = beat, time.monotonic()
        elif time.monotonic() - self._seen > SILENCE:
            raise Fault(f"rank {rank()}: nothing was heard of rank 0 for {SILENCE:.0f} seconds")
