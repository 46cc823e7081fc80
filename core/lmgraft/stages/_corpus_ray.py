"""Workers of the corpus stage as actors of Ray: of a cluster that is there, or of a Ray of this machine alone.

Each actor builds its parts once. What a task writes, it writes into the stage's own folder, so the machines of a
cluster must share that: each actor proves it with a file that it finds there.
"""

from __future__ import annotations

import importlib
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from lmgraft.errors import LmgraftError, Problem, Stopped, UserError
from lmgraft.stages._corpus_workshop import Job, Lost, Parts, guarded, own_workshop

__all__ = ["RayHands"]

T = TypeVar("T")
R = TypeVar("R")

OBJECT_STORE = 100 << 20
"""Bytes of shared memory of a Ray of our own: results are a few kilobytes, and what does not fit goes to disk."""
DEPTH = 2
"""Tasks at an actor at a time: one waits while the other is done."""
FOLDER = "lmgraft-ray-"
"""How a Ray of our own begins its folder's name; the process id follows."""


class RayHands:
    """Actors of one processor core each. Implements :class:`lmgraft.stages._corpus_workshop.Hands`.

    ``workers`` is the most; of a cluster it takes as many as that has cores, and begins with those that are free.
    ``alive`` is called while Ray starts.

    :raises UserError: no Ray can be joined, or one of its machines does not see ``scratch``.
    """

    def __init__(
        self,
        parts: Parts,
        fits: Mapping[str, Path],
        workers: int,
        stage: str,
        scratch: Path | None,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._stage = stage
        self._backlog: deque[tuple[_Ticket[Any], Any, Any]] = deque()
        self._free: deque[Any] = deque()
        """Actors that can take a task, as often as they can."""
        self._busy: dict[Any, tuple[Any, _Ticket[Any] | None]] = {}
        """What is awaited -> the actor, and the ticket; None where it is the actor's own start."""
        self._scratch = Path(scratch or tempfile.gettempdir()).absolute()
        self._token = secrets.token_hex(8)
        self._nonce = self._scratch / f".{FOLDER}{self._token}"
        self._folder = _join(workers, stage)
        alive()
        self._nonce.write_text(self._token, encoding="utf-8")
        self._start(dict(parts), dict(fits), workers)

    def submit(self, job: Job[T, R], task: T) -> _Ticket[R]:
        ticket: _Ticket[R] = _Ticket(self)
        self._backlog.append((ticket, job, task))
        self.pump(0.0)
        return ticket

    def close(self, *, at_once: bool) -> None:
        ray = _ray()
        self._nonce.unlink(missing_ok=True)
        for actor in self._actors:
            ray.kill(actor)
        if self._folder is not None:
            ray.shutdown()
            shutil.rmtree(self._folder, ignore_errors=True)

    def pump(self, seconds: float) -> None:
        """Takes in what is done, waiting for it at most so long, and hands out what waits."""
        ray = _ray()
        if self._busy:
            awaited = list(self._busy)
            if seconds:
                ray.wait(awaited, num_returns=1, timeout=seconds)
            for reference in ray.wait(awaited, num_returns=len(awaited), timeout=0)[0]:
                self._take_in(reference)
        while self._free and self._backlog:
            actor = self._free.popleft()
            ticket, job, task = self._backlog.popleft()
            self._busy[actor.work.remote(job, task)] = actor, ticket

    def _start(self, parts: Parts, fits: Mapping[str, Path], workers: int) -> None:
        ray = _ray()
        cores = int(ray.cluster_resources().get("CPU", 1))
        kind: Any = ray.remote(num_cpus=1, max_restarts=0)(_Actor)
        paths = [path for path in sys.path if path]
        self._actors = [kind.remote(paths, os.getcwd()) for _ in range(max(1, min(workers, cores)))]
        for actor in self._actors:
            self._busy[actor.start.remote(str(self._nonce), self._token, parts, fits)] = actor, None

    def _take_in(self, reference: Any) -> None:
        ray = _ray()
        actor, ticket = self._busy.pop(reference)
        try:
            answer = cast("tuple[bool, Any]", ray.get(reference))
        except ray.exceptions.RayError as error:
            lost = Lost(str(error))
            if ticket is None:
                raise self._broken(error) from error
            ticket.answer = (False, lost)
            return
        if ticket is not None:
            ticket.answer = answer
            self._free.append(actor)
        elif answer[0]:
            self._free.extend([actor] * DEPTH)
        else:
            raise self._unseen(answer[1])

    def _unseen(self, host: str) -> UserError:
        fact = f"{self._stage}.executor=ray: the machine {host} does not see {self._scratch}"
        cause = "all machines of a Ray cluster work in the stage's own folder, and there it is missing or another"
        return UserError(Problem(fact, cause, "store.dir=FOLDER on a file system that all of them mount there"))

    def _broken(self, error: BaseException) -> UserError:
        last = (str(error).strip() or type(error).__name__).splitlines()[-1]
        remedy = (
            f"install the same lmgraft and plugins on each machine of the cluster, or {self._stage}.executor=processes"
        )
        return UserError(Problem(f"{self._stage}.executor=ray: an actor did not start", last, remedy))


class _Ticket(Generic[R]):
    def __init__(self, hands: RayHands) -> None:
        self._hands = hands
        self.answer: tuple[bool, Any] | None = None
        """Whether it went well; then the result, or else the error."""

    def wait(self, seconds: float) -> bool:
        if self.answer is None:
            self._hands.pump(seconds)
        return self.answer is not None

    def result(self) -> R:
        assert self.answer is not None
        went_well, what = self.answer
        if not went_well:
            raise what
        return cast("R", what)


def _ray() -> Any:
    return importlib.import_module("ray")


# --- joining Ray ------------------------------------------------------------------------------------------------------


def _join(workers: int, stage: str) -> Path | None:
    """Connects to Ray. The folder of a connection that is ours to end; None where the program had one before."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with _signals_kept():
        ray = _ray()
        if ray.is_initialized():
            return None
        folder = _folder()
        try:
            _connect(workers, folder)
        except (Exception, SystemExit) as error:
            ray.shutdown()
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, SystemExit):  # from Ray's own handler, while it was starting
                raise Stopped("stopped on SIGTERM; the work so far is saved and the same command goes on") from error
            address = os.environ.get("RAY_ADDRESS")
            fact = f"{stage}.executor=ray: Ray {f'at RAY_ADDRESS={address} ' if address else ''}cannot be joined"
            remedy = f"start it there and try again, or {stage}.executor=processes"
            raise UserError(Problem(fact, str(error) or type(error).__name__, remedy)) from error
    return folder


def _connect(workers: int, folder: Path) -> None:
    """Joins the cluster that RAY_ADDRESS names or that runs here, or else starts one in ``folder``."""
    ray = _ray()
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    address = os.environ.get("RAY_ADDRESS", "")
    host, _, port = address.rpartition("//")[2].rpartition(":")
    if host and port.isdigit():  # Ray itself would try for five minutes
        socket.create_connection((host, int(port)), timeout=10).close()
    try:
        ray.init(address="auto", **quiet)
    except ConnectionError:
        if address:
            raise
        own: dict[str, Any] = {"num_cpus": workers, "num_gpus": 0, "object_store_memory": OBJECT_STORE}
        ray.init(address="local", include_dashboard=False, _temp_dir=str(folder), **own, **quiet)


def _folder() -> Path:
    """A new short folder (Ray's sockets lie in it, and their names are limited); those of the dead are removed."""
    base = Path(tempfile.gettempdir())
    for left in base.glob(f"{FOLDER}*"):
        pid = left.name.removeprefix(FOLDER).partition("-")[0]
        if pid.isdigit() and not _runs(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{FOLDER}{os.getpid()}-", dir=base))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray puts a handler for SIGTERM into place that ends the process; a run that is stopped saves its work first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- in an actor ------------------------------------------------------------------------------------------------------


class _Actor:
    """The parts cross with ``start``, not here: only now are the driver's modules found."""

    def __init__(self, paths: Sequence[str], folder: str) -> None:
        sys.path += [path for path in paths if path not in sys.path]
        if Path(folder).is_dir():  # sources may be given by relative paths
            os.chdir(folder)

    def start(self, nonce: str, token: str, parts: Parts, fits: Mapping[str, Path]) -> tuple[bool, str]:
        """Whether it sees the stage's folder, and the name of its machine."""
        try:
            seen = Path(nonce).read_text(encoding="utf-8") == token
        except OSError:
            seen = False
        if seen:
            self._workshop = own_workshop(parts, fits)
        return seen, socket.gethostname()

    def work(self, job: Job[T, R], task: T) -> tuple[bool, R | LmgraftError]:
        """(True, what the job gives), or (False, the error)."""
        try:
            return True, guarded(job, self._workshop, task)
        except LmgraftError as error:
            return False, error
