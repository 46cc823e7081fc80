"""The application: OpenAI's routes, the page, and the server's health."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lmgraft.generation.prompts import Prompts
from lmgraft.serving.answering import Answer, Gone
from lmgraft.serving.asked import Limits, read, read_json
from lmgraft.serving.guard import Guard, Rules
from lmgraft.serving.page import Page
from lmgraft.serving.refusals import Refused
from lmgraft.serving.replies import listed
from lmgraft.serving.worker import Worker

__all__ = ["Served", "application"]

#: Seconds in which a body must have come.
_SENDING = 30.0
#: So many times the most that a body may hold are read and thrown away, so that its sender hears why.
_PATIENCE = 16

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Served:
    """What is served."""

    prompts: Prompts
    """How the model is asked."""
    worker: Worker
    """Owns it."""
    limits: Limits
    """What a request may ask for."""
    seconds: float
    """That a request may take."""
    body: int
    """Bytes that a request may hold."""


def application(served: Served, rules: Rules) -> Guard:
    """The whole application, behind its guard."""
    created = int(time.time())
    page = Page(served.limits.model, chats=served.prompts.template is not None)

    async def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [listed(served.limits.model, created)]})

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        if name != served.limits.model:
            raise Refused(404, f"The model {name[:100]!r} does not exist.", param="model", code="model_not_found")
        return JSONResponse(listed(name, created))

    async def health(_: Request) -> Response:
        running, waiting = served.worker.counts()
        return JSONResponse({"status": "ok", "running": running, "waiting": waiting})

    async def front(_: Request) -> Response:
        return Response(page.html, media_type="text/html", headers={"content-security-policy": page.policy})

    routes = [
        Route("/", front),
        Route("/health", health),
        Route("/v1/models", models),
        Route("/v1/models/{name:path}", model),
        Route("/v1/completions", _completions(served, chat=False), methods=["POST"]),
        Route("/v1/chat/completions", _completions(served, chat=True), methods=["POST"]),
    ]
    handlers: dict[Any, Any] = {Refused: _refused, HTTPException: _http, Gone: _gone, ClientDisconnect: _gone}
    return Guard(Starlette(routes=routes, exception_handlers={**handlers, Exception: _failed}), rules)


def _completions(served: Served, *, chat: bool) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refused(415, f"Unsupported content type {kind[:60]!r}: send application/json.")
        raw = await _body(request, served.body)
        # Rendering and encoding a long prompt takes a while, in which others are to be heard.
        asked = await asyncio.to_thread(lambda: read(read_json(raw), served.prompts, served.limits, chat=chat))
        answer = Answer(asked, served.worker, served.prompts.tokenizer, served.limits.model, served.seconds)
        response: Response = await answer.reply(request)
        request.scope["state"]["usage"] = answer.usage()
        return response

    return endpoint


async def _body(request: Request, most: int) -> bytes:
    said = request.headers.get("content-length", "0")
    kept = bytearray()
    size = 0
    try:
        async with asyncio.timeout(_SENDING):
            async for piece in request.stream():
                size += len(piece)
                if size <= most:
                    kept += piece
                elif size > _PATIENCE * most or (said.isdigit() and int(said) > _PATIENCE * most):
                    break
    except TimeoutError:
        raise Refused(408, f"The body did not come within {_SENDING:.0f} seconds.") from None
    if size > most:
        raise Refused(413, f"The body of the request is larger than {most} bytes.", code="request_too_large")
    return bytes(kept)


async def _refused(_: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused), "it handles these alone"
    return JSONResponse(refused.body(), status_code=refused.status, headers=refused.headers())


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "it handles these alone"
    message = f"Invalid URL ({request.method} {request.url.path[:100]})" if error.status_code == 404 else error.detail
    body = Refused(error.status_code, message).body()
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)


async def _gone(request: Request, _: Exception) -> Response:
    request.scope["state"]["gone"] = True
    return Response(status_code=499)  # nginx's; nobody reads it, but for the log


async def _failed(_: Request, __: Exception) -> Response:
    return JSONResponse(Refused(500, "The server failed; its log says why.").body(), status_code=500)
