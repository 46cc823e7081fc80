"""Where the server listens, and how it ends.

The first SIGINT or SIGTERM closes the door: requests under way are finished within the time that is given for it, and
no new ones come. What is not finished by then, or when a second signal comes, is cut off.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from lmgraft.errors import Problem, Stopped, UserError
from lmgraft.serving.guard import Guard
from lmgraft.serving.worker import Worker

__all__ = ["address", "is_loopback", "listen", "run", "server"]

Address = tuple[int, tuple[Any, ...]]
"""Family and address of a socket."""

#: Connections open at once; more get status 503.
_CONNECTIONS = 1000


def address(host: str, port: int) -> Address:
    """Where ``host`` is. :raises UserError: nowhere."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        cause = f"no address of that name is known here ({getattr(error, 'strerror', None) or error})"
        raise UserError(
            Problem(f"--host {host}", cause, "--host 127.0.0.1; 0.0.0.0 is every address of the machine")
        ) from error
    # IPv4 first: what says "localhost" to people is 127.0.0.1 to most clients.
    family, _, _, _, place = sorted(found, key=lambda one: one[0] != socket.AF_INET)[0]
    return family, place


def is_loopback(place: Address) -> bool:
    """Is it reached from this machine alone."""
    return ipaddress.ip_address(str(place[1][0]).partition("%")[0]).is_loopback


def listen(place: Address) -> socket.socket:
    """A socket that is bound there and does not listen yet. :raises UserError: it cannot be."""
    family, where = place
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(where)
        # Bound is not taken: only listening refuses the next server that comes.
        bound.listen(1)
    except OSError as error:
        bound.close()
        raise UserError(_not_bound(where, error)) from error
    return bound


def _not_bound(where: tuple[Any, ...], error: OSError) -> Problem:
    host, port = where[:2]
    if error.errno == errno.EADDRINUSE:
        return Problem(
            f"--port {port} is in use", f"another program listens at {host}:{port}", "--port 0 takes a free one"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return Problem(
            f"--host {host}", "it is no address of this machine", "--host 127.0.0.1, or --host 0.0.0.0 for all"
        )
    if error.errno == errno.EACCES:
        return Problem(f"--port {port}", "ports below 1024 are the administrator's", "--port 8000")
    return Problem(f"{host}:{port} cannot be listened at", error.strerror or str(error), "--host 127.0.0.1 --port 8000")


def run(app: Guard, worker: Worker, bound: socket.socket, *, drain: float) -> None:
    """Serves until a signal comes and what was under way is done.

    :raises Stopped: some of it was cut off.
    """
    served = server(app, drain)
    worker.start()
    try:
        asyncio.run(served.serve(sockets=[bound]))
    finally:
        finished = worker.close(drain if not served.force_exit else 1.0)
    if app.cut or not finished:
        raise Stopped(f"stopped; {app.cut or 'some'} of the requests under way were cut off")


def server(app: Guard, drain: float) -> uvicorn.Server:
    """Uvicorn as it is wanted here: HTTP alone, no log of its own but of faults, and signals that are wishes."""
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=max(1, round(drain)),
    )
    return _Server(config)


class _Server(uvicorn.Server):
    """Takes signals without raising them again at its end, which would end the process by the signal."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Inside, SIGINT and SIGTERM are wishes."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: object) -> None:
        """The second signal, of either kind, does not wait."""
        self.force_exit = self.force_exit or self.should_exit
        self.should_exit = True
