"""Answers in the shapes of OpenAI's API: whole ones, and the pieces of streamed ones."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from typing import Any

from lmgraft.generation.text import Reason

__all__ = ["DONE", "Replies", "listed", "sse"]

DONE = b"data: [DONE]\n\n"
"""Ends a stream."""


class Replies:
    """The replies to one request."""

    def __init__(self, model: str, *, chat: bool) -> None:
        self._chat = chat
        kind = "chat.completion" if chat else "text_completion"
        self._head = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{secrets.token_hex(12)}",
            "object": kind,
            "created": int(time.time()),
            "model": model,
        }

    def whole(self, texts: Sequence[str], reasons: Sequence[Reason], usage: dict[str, int]) -> dict[str, Any]:
        """All choices of a request that does not stream."""
        choices = [self._choice(index, *pair) for index, pair in enumerate(zip(texts, reasons, strict=True))]
        return {**self._head, "choices": choices, "usage": usage}

    def first(self, index: int) -> list[dict[str, Any]]:
        """What stands before the first piece of a choice."""
        return [self._piece(index, {"role": "assistant", "content": ""}, None)] if self._chat else []

    def more(self, index: int, text: str, reason: Reason | None) -> list[dict[str, Any]]:
        """A piece of a choice, and its end where there is a reason."""
        if not self._chat:
            return [self._streamed({"index": index, "text": text, "logprobs": None, "finish_reason": reason})]
        pieces = [self._piece(index, {"content": text}, None)] if text else []
        return [*pieces, self._piece(index, {}, reason)] if reason is not None else pieces

    def counts(self, usage: dict[str, int]) -> dict[str, Any]:
        """The last piece, of streams that asked for it."""
        return {**self._streamed(None), "usage": usage}

    def _choice(self, index: int, text: str, reason: Reason) -> dict[str, Any]:
        said: dict[str, Any] = {"text": text}
        if self._chat:
            said = {"message": {"role": "assistant", "content": text, "refusal": None}}
        return {"index": index, **said, "logprobs": None, "finish_reason": reason}

    def _piece(self, index: int, delta: dict[str, Any], reason: Reason | None) -> dict[str, Any]:
        return self._streamed({"index": index, "delta": delta, "logprobs": None, "finish_reason": reason})

    def _streamed(self, choice: dict[str, Any] | None) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        return {**self._head, "object": kind, "choices": [] if choice is None else [choice]}


def sse(content: dict[str, Any]) -> bytes:
    """One server-sent event."""
    # ASCII: a line end inside a text, of whatever kind, would end the event.
    return b"data: " + json.dumps(content, separators=(",", ":")).encode("ascii") + b"\n\n"


def listed(model: str, created: int) -> dict[str, Any]:
    """A model as ``/v1/models`` tells it."""
    return {"id": model, "object": "model", "created": created, "owned_by": "lmgraft"}
