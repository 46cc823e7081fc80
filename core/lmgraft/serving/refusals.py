"""What is refused, in the shape in which OpenAI's API says it and its clients read it."""

from __future__ import annotations

from typing import Any

from lmgraft.printable import printable

__all__ = ["Refused"]

#: Status -> the type that OpenAI's errors of it have.
_TYPES = {429: "rate_limit_error", 500: "server_error", 503: "server_error"}


class Refused(Exception):
    """A request that is not answered; ``status`` is HTTP's."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, printable(message), param, code

    def body(self) -> dict[str, Any]:
        """``{"error": {...}}``."""
        kind = _TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """Of the response."""
        more = {429: {"retry-after": "1"}, 503: {"retry-after": "1"}, 401: {"www-authenticate": "Bearer"}}
        return more.get(self.status, {})
