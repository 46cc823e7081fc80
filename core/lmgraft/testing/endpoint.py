"""An OpenAI-compatible endpoint on the loopback device, whose answers are known: what teachers are shown."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["REFUSED", "Asked", "Endpoint", "answer", "no_network"]

#: A conversation that holds this word is answered with status 400, which a client does not try again.
REFUSED = "the kit refuses this question"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that came."""

    messages: list[Any]
    answer: str
    """Empty where it was refused."""
    authorization: str


def answer(messages: Sequence[Mapping[str, Any]]) -> str:
    """What the endpoint says to a conversation: it depends on every word of it."""
    text = json.dumps(messages, sort_keys=True, ensure_ascii=False)
    words = sum(len(str(message.get("content", "")).split()) for message in messages)
    return f"{words} words, caf\u00e9 {hashlib.sha256(text.encode()).hexdigest()[:12]}."


@dataclass
class Endpoint:
    """Serves until :meth:`close`. ``asked`` holds the requests in the order in which they were answered."""

    asked: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        self._lock = threading.Lock()
        self._open = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def close(self) -> None:
        """Refuses connections from now on; may be called again."""
        if self._open:
            self._open = False
            self._server.shutdown()
            self._server.server_close()

    def respond(self, body: Any, authorization: str) -> tuple[int, dict[str, Any]]:
        """Status and content for the body of a request for a chat completion."""
        messages = body.get("messages") if isinstance(body, dict) else None
        if not isinstance(messages, list) or not messages:
            return 400, _error("messages is missing or empty")
        refused = REFUSED in json.dumps(messages, ensure_ascii=False)
        said = "" if refused else answer(messages)
        with self._lock:
            self.asked.append(Asked(messages, said, authorization))
        return (400, _error(REFUSED)) if refused else (200, _completion(body, said))


@contextmanager
def no_network() -> Iterator[None]:
    """Within the block this process reaches nothing, not even itself."""
    import socket

    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def refuse(*_: Any) -> Any:
        raise ConnectionRefusedError("the kit has taken the network away")

    socket.socket.connect = refuse  # type: ignore[method-assign]
    socket.socket.connect_ex = refuse  # type: ignore[method-assign]
    try:
        yield
    finally:
        socket.socket.connect = connect  # type: ignore[method-assign]
        socket.socket.connect_ex = connect_ex  # type: ignore[method-assign]


def _completion(body: Mapping[str, Any], said: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": said}
    return {
        "id": "chatcmpl-kit", "object": "chat.completion", "created": 0, "model": body.get("model", "kit"),
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }  # fmt: skip


def _error(text: str) -> dict[str, Any]:
    return {"error": {"message": text, "type": "invalid_request_error", "param": None, "code": None}}


def _handler(endpoint: Endpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            listed = {"object": "list", "data": [{"id": "kit", "object": "model", "created": 0, "owned_by": "kit"}]}
            found = self.path.rstrip("/").endswith("/models")
            self._send(*((200, listed) if found else (404, _error(f"there is no {self.path}"))))

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if not self.path.partition("?")[0].rstrip("/").endswith("/v1/chat/completions"):
                self._send(404, _error(f"there is no {self.path}; chat completions are at /v1/chat/completions"))
                return
            try:
                body = json.loads(raw)
            except ValueError as error:
                self._send(400, _error(f"the body is no JSON: {error}"))
                return
            self._send(*endpoint.respond(body, self.headers.get("Authorization", "")))

        def _send(self, status: int, content: Mapping[str, Any]) -> None:
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            pass

    return Handler
