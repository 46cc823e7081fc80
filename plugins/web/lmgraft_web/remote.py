"""Archives by http(s): pinned before they are read, and taken up again where a download broke."""

from __future__ import annotations

import http.client
import ipaddress
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from lmgraft.errors import Problem, UserError
from lmgraft.seams.data_source import Unit, Unreachable

from lmgraft_web.places import refused_url, shown

__all__ = ["Download", "check_url", "pinned"]

CHUNK = 1 << 16
#: Seconds before the second attempt; they double from one to the next, up to LONGEST.
WAIT = 0.5
LONGEST = 30.0
#: How many servers are asked at a time.
ASKED = 16
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_HEADERS = {"User-Agent": "lmgraft", "Accept-Encoding": "identity"}


class _SameWeb(urllib.request.HTTPRedirectHandler):
    """Follows to http(s) only, never from https to http, and never from elsewhere to an address of this network, where
    services answer that trust whoever asks from inside. (Names are not resolved: a proxy may do that.)"""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        scheme = urlsplit(newurl).scheme.lower()
        if scheme not in ("http", "https") or (req.full_url.lower().startswith("https:") and scheme == "http"):
            raise urllib.error.URLError(f"it redirects to {scheme or 'an address without a scheme'}:, which is refused")
        if _inside(urlsplit(newurl).hostname) and not _inside(urlsplit(req.full_url).hostname):
            raise urllib.error.URLError("it redirects to an address of this network, which is refused")
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None and req.get_method() == "HEAD":
            following.method = "HEAD"
        return following


def _inside(host: str | None) -> bool:
    """Whether a host is this machine, or an address that only a local network knows."""
    name = (host or "").rstrip(".").lower()
    try:
        return not ipaddress.ip_address(name).is_global
    except ValueError:
        return name == "localhost" or name.endswith((".localhost", ".local", ".internal"))


# build_opener() would add handlers for file: and ftp:.
_OPENER = urllib.request.OpenerDirector()
for _handler in (
    urllib.request.ProxyHandler(),
    urllib.request.HTTPHandler(),
    urllib.request.HTTPSHandler(),
    urllib.request.HTTPDefaultErrorHandler(),
    urllib.request.HTTPErrorProcessor(),
    _SameWeb(),
):
    _OPENER.add_handler(_handler)


def pinned(named: Iterable[tuple[str, str]], timeout: int, retries: int) -> list[Unit]:
    """A unit for each (id, URL), in order. Its digest is the server's ETag (or, without one, its Last-Modified) and
    the length. Raises UserError where a server does not answer or tells neither."""
    with ThreadPoolExecutor(ASKED) as pool:
        return list(pool.map(lambda one: _pin(one[0], one[1], timeout, retries), named))


class Download:
    """The bytes of a URL, in order, each once: a binary stream that cannot seek.

    A connection that breaks is made again and goes on after the last byte (``Range``), ``retries`` times in a row.
    Where the content is not (or no longer) the one of ``digest``, it raises UserError: so does a server that refuses
    or is not there. Redirects lead to http(s) only.
    """

    def __init__(self, url: str, digest: str, timeout: int, retries: int) -> None:
        check_url(url)
        self.url, self.digest, self.timeout, self.retries = url, digest, timeout, retries
        self.at = 0
        """Bytes that were read."""
        self._length: int | None = None
        self._answer: Any = None
        self._failed = 0

    def __enter__(self) -> Download:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def seekable(self) -> bool:
        return False

    def read(self, size: int = CHUNK) -> bytes:
        """At least one byte, at most ``size``; none at the end."""
        while True:
            try:
                if self._answer is None:
                    self._connect()
                data: bytes = self._answer.read(size)
                if not data and self._length is not None and self.at < self._length:
                    raise http.client.IncompleteRead(b"", self._length - self.at)
            except (OSError, http.client.HTTPException) as error:
                self._try_again(error)
                continue
            self.at += len(data)
            self._failed = 0 if data else self._failed
            return data

    def read_all(self, limit: int) -> bytes:
        """The whole content, or its first ``limit`` bytes."""
        found = bytearray()
        while len(found) < limit and (data := self.read(CHUNK)):
            found += data
        return bytes(found)

    def close(self) -> None:
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    def _connect(self) -> None:
        answer = _ask(self.url, "GET", self.timeout, {"Range": f"bytes={self.at}-"} if self.at else {})
        resumed = answer.status == 206
        total = _total(answer.headers, answer.status)
        digest = _digest(answer.headers, total)
        self.digest = self.digest or digest or ""
        if self.digest and digest != self.digest:
            answer.close()
            cause = f"it was {self.digest}, and is {digest or 'something else'}"
            fact = f"common_crawl: {shown(self.url)} has changed since it was listed"
            raise Unreachable(Problem(fact, cause, "start again; download it first where it changes often"))
        self._length, self._answer = total, answer
        left = 0 if resumed else self.at  # a server that knows no ranges sends all from the start
        while left:
            skipped = answer.read(min(left, CHUNK))
            if not skipped:
                raise http.client.IncompleteRead(b"", left)
            left -= len(skipped)

    def _try_again(self, error: Exception) -> None:
        self.close()
        self._failed += 1
        _wait_or_raise(self.url, error, self._failed, self.retries)


def _pin(name: str, url: str, timeout: int, retries: int) -> Unit:
    check_url(url)
    failed = 0
    while True:
        try:
            try:
                answer = _ask(url, "HEAD", timeout, {})
            except urllib.error.HTTPError as error:
                if error.code not in (400, 403, 405, 501):
                    raise
                answer = _ask(url, "GET", timeout, {"Range": "bytes=0-0"})  # a server without HEAD
            with answer:
                total = _total(answer.headers, answer.status)
                digest = _digest(answer.headers, total)
            break
        except (OSError, http.client.HTTPException) as error:
            failed += 1
            _wait_or_raise(url, error, failed, retries)
    if digest is None:
        cause = "the server tells neither ETag nor Last-Modified with a length, so nothing pins what it sends"
        fact = f"common_crawl: {shown(url)} cannot be pinned"
        raise UserError(Problem(fact, cause, "download it, and set common_crawl.path to the file"))
    return Unit(id=name, digest=digest, size=total or 0)


def check_url(url: str) -> None:
    """A listing names URLs as well as the settings do, which are checked before."""
    if (why := refused_url(url)) is not None:
        raise UserError(Problem(f"common_crawl: {shown(url)} cannot be read", *why))


def _ask(url: str, method: str, timeout: int, more: dict[str, str]) -> Any:
    request = urllib.request.Request(url, method=method, headers={**_HEADERS, **more})
    try:
        return _OPENER.open(request, timeout=timeout)
    except ValueError:  # our own URL was checked
        raise urllib.error.URLError("it redirects to what is no address, which is refused") from None


def _wait_or_raise(url: str, error: Exception, failed: int, retries: int) -> None:
    code = error.code if isinstance(error, urllib.error.HTTPError) else None
    refused = code is not None and code not in _AGAIN
    refused |= isinstance(error, urllib.error.URLError) and "refused" in str(error.reason) and "redirects" in str(error)
    if not refused and failed <= retries:
        time.sleep(min(LONGEST, WAIT * 2 ** (failed - 1)))
        return
    if code is not None:
        fact, cause = f"common_crawl: {shown(url)} was refused", f"the server answers {code} {error.reason}"  # type: ignore[attr-defined]
        remedy = "check the address; 403 and 503 of Common Crawl mean too many requests at a time"
    else:
        fact = f"common_crawl: {shown(url)} cannot be reached"
        cause = f"{getattr(error, 'reason', None) or error} ({failed} attempts)"
        remedy = "check the network and HTTPS_PROXY, or download the archive and set common_crawl.path to the file"
    raise Unreachable(Problem(fact, cause, remedy)) from None


def _total(headers: Message, status: int) -> int | None:
    """The length of the whole content."""
    if status == 206:
        total = str(headers.get("Content-Range", "")).rpartition("/")[2]
        return int(total) if total.isdigit() else None
    length = str(headers.get("Content-Length", ""))
    return int(length) if length.isdigit() else None


def _digest(headers: Message, total: int | None) -> str | None:
    mark = headers.get("ETag") or headers.get("Last-Modified")
    return None if mark is None or total is None else f"{str(mark).strip()} {total}"
