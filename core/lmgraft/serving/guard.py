"""What stands before the application: who may ask, from where, how much at once; and one line a request in the log.

- A web page that a user visits elsewhere can send requests to this machine. Those of a browser carry the page's
  ``Origin``, which must be this server's own; and a page that made its name resolve to this machine (DNS rebinding)
  sends its name as ``Host``, which without a key must be one of this machine's. No CORS header is ever sent.
- With a key every request below ``/v1`` must carry it; digests are compared in constant time, and no header is logged.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lmgraft.printable import printable
from lmgraft.serving.refusals import Refused

__all__ = ["Guard", "Rules"]

#: On every response: nothing here is to be framed, guessed at, kept, or read by another site.
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


@dataclass(frozen=True, slots=True)
class Rules:
    """Who may ask."""

    key: str | None = field(default=None, repr=False)
    """What ``Authorization: Bearer`` must carry; None: nothing is needed."""
    hosts: frozenset[str] = frozenset({"localhost", "127.0.0.1", "[::1]"})
    """Names by which this machine is asked where there is no key."""
    log: Callable[[str], None] | None = None
    """Takes a line a request."""


class Guard:
    """ASGI middleware. ``cut`` counts requests that were under way when the server had to end."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app, self._rules = app, rules
        self._digest = _digest(rules.key) if rules.key is not None else None
        self.cut = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses, or hands on."""
        if scope["type"] != "http":
            return
        started = time.monotonic()
        state: dict[str, Any] = scope.setdefault("state", {})
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        try:
            refused = self._refused(scope)
            app = _json(refused) if refused is not None else self._app
            await app(scope, receive, sending)
        except asyncio.CancelledError:
            # The server's time is up. Raised further it would be told as a failure of the application.
            self.cut += 1
            state["gone"] = True
        finally:
            if self._rules.log is not None:
                self._rules.log(_line(scope, status, time.monotonic() - started))

    def _refused(self, scope: Scope) -> Refused | None:
        headers: Mapping[bytes, bytes] = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if self._rules.key is None and _name(host) not in self._rules.hosts:
            message = f"This server is not {host[:100]!r}: ask it by the name of its own machine."
            return Refused(403, message, code="unknown_host")
        origin = headers.get(b"origin")
        if origin is not None and _place(origin.decode("latin-1").lower()) != host:
            return Refused(403, "Requests from pages of other sites are refused.", code="foreign_origin")
        if self._digest is None or not scope["path"].startswith("/v1"):
            return None
        scheme, _, given = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if not given:
            return Refused(401, "You didn't provide an API key: Authorization: Bearer KEY.", code="invalid_api_key")
        if scheme.lower() != "bearer" or not hmac.compare_digest(_digest(given.strip()), self._digest):
            return Refused(401, "Incorrect API key provided.", code="invalid_api_key")
        return None


def _digest(key: str) -> bytes:
    # Of one length: a comparison tells nothing of the key's.
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()


def _name(host: str) -> str:
    """A Host header without its port."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _place(origin: str) -> str | None:
    """Host and port of an Origin header; None where it is no address."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _json(refused: Refused) -> ASGIApp:
    return JSONResponse(refused.body(), status_code=refused.status, headers=refused.headers())


def _line(scope: Scope, status: int, seconds: float) -> str:
    """Without query and headers, which may hold secrets."""
    state = scope["state"]
    usage = state.get("usage")
    tokens = f" {usage['prompt_tokens']}+{usage['completion_tokens']} tokens" if usage else ""
    gone = " (the client went away)" if state.get("gone") else ""
    client = (scope.get("client") or ("-",))[0]
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    path = printable(scope["path"].replace("\n", "<U+000A>").replace("\t", "<U+0009>")[:200])
    return f"{now} {client} {scope['method']} {path} {status or '-'} {1000 * seconds:.0f} ms{tokens}{gone}"
