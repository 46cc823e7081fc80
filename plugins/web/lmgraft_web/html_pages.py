"""Data source ``html_pages``: saved web pages, a file each, as raw markup."""

from __future__ import annotations

import hashlib
import html
import os
import re
import zlib
from collections.abc import Iterator
from urllib.parse import urljoin, urlsplit

from lmgraft.errors import Problem, UserError
from lmgraft.seams.data_source import Damaged, Document, Unit

from lmgraft_web.charset import decode
from lmgraft_web.payload import host_of
from lmgraft_web.places import find
from lmgraft_web.plugin import HtmlPagesConfig

__all__ = ["HtmlPages"]

_SUFFIXES = (".html", ".htm", ".xhtml")
_CANONICAL = re.compile(
    r"<link\b(?=[^>]{0,2000}\brel\s*=\s*[\"']?canonical\b)[^>]{0,2000}?\bhref\s*=\s*(\"[^\"]*\"|'[^']*'|[^\s>]+)", re.I
)
#: How far into a page its canonical link is looked for.
HEAD = 1 << 17
CHUNK = 1 << 16


class HtmlPages:
    """A document a page, its markup in ``text``. A unit is a file.

    ``meta`` has ``charset``, ``mime`` (``text/html``), ``url`` (as ``urls`` says, else the page's canonical link
    where it is absolute) and ``replaced`` (characters that could not be decoded). The host, where it is known, is the
    group. What is broken stands as :class:`Damaged`: ``bad_gzip``, ``truncated``, ``too_long``, ``empty``.
    """

    def __init__(self, config: HtmlPagesConfig) -> None:
        self.config = config
        self._files: dict[str, str] | None = None
        self._urls: dict[str, str] | None = None

    def units(self) -> list[Unit]:
        """A page each, sorted by id. Raises UserError where a path has nothing to read."""
        return [self._unit(name, path) for name, path in self._found().items()]

    def read(self, unit: Unit, offset: int) -> Iterator[Document | Damaged]:
        if offset > 0:
            return
        try:
            data = self._bytes(unit.path or self._found()[unit.id])
        except _Bad as error:
            fact = f"html_pages: {unit.id} is damaged ({error.reason})"
            yield Damaged(error.reason, Problem(fact, error.cause, error.remedy), unit.size)
            return
        decoded = decode(data, self.config.charset)
        meta: dict[str, str | int] = {"charset": decoded.charset, "mime": "text/html"}
        url = self._mapped().get(unit.id) or _canonical(decoded.text)
        if url:
            meta["url"] = url
        if decoded.replaced:
            meta["replaced"] = decoded.replaced
        yield Document(id=unit.id, text=decoded.text, group=host_of(url), meta=meta)

    def _found(self) -> dict[str, str]:
        if self._files is None:
            paths = self.config.paths()
            if not paths:
                fact, cause = "html_pages.path is not set", "there is nothing to read"
                raise UserError(Problem(fact, cause, "set it to a file, a folder, a glob or a list of these"))
            told = f"{', '.join(_SUFFIXES)}, also with .gz"
            self._files = dict(find("html_pages", paths, _fits, told))
        return self._files

    def _mapped(self) -> dict[str, str]:
        if self._urls is None:
            self._urls = _read_urls(self.config.urls) if self.config.urls else {}
        return self._urls

    def _unit(self, name: str, path: str) -> Unit:
        size, url = os.path.getsize(path), self._mapped().get(name)
        if url is None:
            return Unit(id=name, path=path, size=size)
        # The page alone does not pin what becomes of it: its URL stands in another file.
        with open(path, "rb") as file:
            pinned = hashlib.file_digest(file, "sha256")
        return Unit(id=name, digest=f"{pinned.hexdigest()} {url}", size=size)

    def _bytes(self, path: str) -> bytes:
        limit = self.config.page_bytes
        try:
            with open(path, "rb") as file:
                data = file.read(limit + 1)
        except OSError as error:
            fact, cause = f"html_pages: {path} cannot be read", error.strerror or str(error)
            raise UserError(Problem(fact, cause, "check that it exists and who may read it")) from None
        if data.startswith(b"\x1f\x8b"):
            data = _unpacked(data, limit)
        if len(data) > limit:
            cause = f"it takes more than {limit} bytes"
            raise _Bad("too_long", cause, "raise html_pages.page_bytes, or let the stage count it: corrupt=quarantine")
        if not data:
            raise _Bad("empty", "it holds 0 bytes", "remove it, or let the stage count it: corrupt=quarantine")
        return data


class _Bad(Exception):
    """A page that cannot be read."""

    def __init__(self, reason: str, cause: str, remedy: str) -> None:
        super().__init__(reason, cause, remedy)
        self.reason, self.cause, self.remedy = reason, cause, remedy


def _fits(name: str) -> bool:
    return name.removesuffix(".gz").endswith(_SUFFIXES)


def _unpacked(data: bytes, limit: int) -> bytes:
    """All members of a gzip file, at most ``limit`` bytes and one more."""
    out, again = bytearray(), "save the page again, or let the stage count it: corrupt=quarantine"
    while data and len(out) <= limit:
        member = zlib.decompressobj(31)
        try:
            out += member.decompress(data, limit + 1 - len(out))
        except zlib.error as error:
            raise _Bad("bad_gzip", f"decompressing it failed: {error}", again) from None
        if not member.eof and len(out) <= limit:
            raise _Bad("truncated", "the file ends inside a compressed member", again)
        data = member.unused_data.lstrip(b"\0")
    return bytes(out)


def _canonical(text: str) -> str:
    """The page's canonical link where it is absolute http(s); else empty."""
    found = _CANONICAL.search(text, 0, HEAD)
    if found is None:
        return ""
    url = html.unescape(found[1].strip("\"' \t\r\n"))
    try:
        parts = urlsplit(urljoin("", url))
    except ValueError:
        return ""
    return url if parts.scheme in ("http", "https") and parts.netloc and url.isprintable() else ""


def _read_urls(path: str) -> dict[str, str]:
    """Name -> URL, a line each, a tab or comma between them."""
    found = {}
    try:
        with open(os.path.expanduser(path), encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                name, mark, url = line.strip().partition("\t" if "\t" in line else ",")
                if not line.strip():
                    continue
                if not mark or "://" not in url:
                    fact, cause = f"html_pages.urls: {path}:{number} gives no URL", f"it reads {line.strip()[:60]!r}"
                    raise UserError(Problem(fact, cause, "write a page's name, a tab and its URL"))
                found[name.strip()] = url.strip()
    except (OSError, UnicodeDecodeError) as error:
        fact, cause = f"html_pages.urls: {path} cannot be read", getattr(error, "strerror", None) or str(error)
        raise UserError(
            Problem(fact, cause, "give a UTF-8 file: a page's name, a tab and its URL in each line")
        ) from None
    return found
