"""One request from its texts to its reply: whole, or streamed as server-sent events.

The worker's thread hands events to the event loop; nothing that a client does (reading slowly, going away) holds that
thread up. A client that goes away frees its places at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from lmgraft.generation.text import Reason, TextStream
from lmgraft.seams.tokenizer import TextTokenizer
from lmgraft.serving.asked import Asked
from lmgraft.serving.refusals import Refused
from lmgraft.serving.replies import DONE, Replies, sse
from lmgraft.serving.worker import Event, Text, Worker

__all__ = ["Answer", "Gone"]

#: Seconds that a client may take to read what was written in time.
READING = 60.0


class Gone(Exception):
    """The client has gone away: nobody hears a reply."""


class Answer:
    """The texts of one request: from :meth:`reply` on they wait or are under way, and :meth:`close` gives them up."""

    def __init__(self, asked: Asked, worker: Worker, tokenizer: TextTokenizer, model: str, seconds: float) -> None:
        self.asked = asked
        self._worker = worker
        self._seconds = seconds
        self._replies = Replies(model, chat=asked.chat)
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        deadline = time.monotonic() + seconds
        pairs = [(prompt, sampling) for prompt in asked.prompts for sampling in asked.samplings]
        self._texts = [
            Text(index, prompt, sampling, TextStream(tokenizer, asked.ending), self._deliver, deadline)
            for index, (prompt, sampling) in enumerate(pairs)
        ]
        self._watch: asyncio.Task[None] | None = None

    def usage(self) -> dict[str, int]:
        """Tokens read and written."""
        read = sum(map(len, self.asked.prompts))
        written = sum(text.stream.tokens for text in self._texts)
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    async def reply(self, request: Request) -> Any:
        """An ASGI response.

        :raises Refused: there is no place, or the model failed before there was a first piece.
        :raises Gone: the client has gone away.
        """
        self._worker.submit(self._texts)
        try:
            self._watch = asyncio.create_task(self._until_gone(request.receive))
            return await self._streamed() if self.asked.stream else await self._whole()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Gives the places free."""
        self._worker.cancel(self._texts)
        if self._watch is not None:
            self._watch.cancel()

    async def _whole(self) -> Response:
        pieces: list[list[str]] = [[] for _ in self._texts]
        reasons: list[Reason | None] = [None] * len(self._texts)
        while None in reasons:
            event = await self._next()
            pieces[event.index].append(event.text)
            reasons[event.index] = event.reason
        self.close()
        told = [reason or "length" for reason in reasons]
        return JSONResponse(self._replies.whole(["".join(one) for one in pieces], told, self.usage()))

    async def _streamed(self) -> _Stream:
        # The first event decides the status; from there on it is 200.
        first = await self._next()
        return _Stream(self, self._pieces(first), self._seconds + READING)

    async def _pieces(self, event: Event) -> AsyncIterator[bytes]:
        left = set(range(len(self._texts)))
        begun: set[int] = set()
        while True:
            if event.index not in begun:
                begun.add(event.index)
                for piece in self._replies.first(event.index):
                    yield sse(piece)
            for piece in self._replies.more(event.index, event.text, event.reason):
                yield sse(piece)
            if event.reason is not None:
                left.discard(event.index)
            if not left:
                break
            try:
                event = await self._next()
            except Refused as fault:
                yield sse(fault.body())
                return
        if self.asked.usage:
            yield sse(self._replies.counts(self.usage()))
        yield DONE

    async def _next(self) -> Event:
        event = await self._events.get()
        if event is None:
            raise Gone
        if event.fault is not None:
            raise event.fault
        return event

    def _deliver(self, event: Event) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended before the worker
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def _until_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._events.put_nowait(None)
        self._worker.cancel(self._texts)


class _Stream:
    """The response: an ASGI application."""

    def __init__(self, answer: Answer, pieces: AsyncIterator[bytes], seconds: float) -> None:
        self._answer, self._pieces, self._seconds = answer, pieces, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
        try:
            # Who does not read is waited for so long and no longer; the texts themselves have ended by then.
            async with asyncio.timeout(self._seconds):
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                async for piece in self._pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except (Gone, TimeoutError):
            scope["state"]["gone"] = True
        finally:
            self._answer.close()
            scope["state"]["usage"] = self._answer.usage()
