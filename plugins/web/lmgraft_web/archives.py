"""Which archives ``common_crawl`` reads: files, URLs, and the lines of a listing."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from lmgraft.errors import Problem, UserError

from lmgraft_web.places import find, is_url, shown
from lmgraft_web.plugin import CommonCrawlConfig
from lmgraft_web.remote import Download, check_url

__all__ = ["Archive", "find_archives"]

_KINDS = (".warc", ".arc", ".wet")
_PACKED = (".gz", ".zst", ".lz4")
#: A listing of 100,000 paths takes 15 MB unpacked; more than this is something else.
LISTING = 256 << 20


@dataclass(frozen=True, slots=True)
class Archive:
    """One archive: ``path`` or ``url`` is set."""

    id: str
    path: str = ""
    url: str = ""


def find_archives(config: CommonCrawlConfig) -> dict[str, Archive]:
    """Archives by their id, sorted. Raises UserError where a path or the listing has nothing to read."""
    paths = config.paths()
    if not paths and config.listing is None:
        fact, cause = "common_crawl.path is not set", "there is nothing to read"
        raise UserError(
            Problem(fact, cause, "set it to a file, a folder, a glob or a URL, or set common_crawl.listing")
        )
    local = [path for path in paths if not is_url(path)]
    found = [Archive(name, path=path) for name, path in find("common_crawl", local, _fits, _told())] if local else []
    found += [Archive(_id_of(path), url=path) for path in paths if is_url(path)]
    if config.listing is not None:
        found += list(_listed(config))
    by_id: dict[str, Archive] = {}
    for archive in sorted(found, key=lambda one: (one.id, one.url, one.path)):
        other = by_id.setdefault(archive.id, archive)
        if (other.url, other.path) != (archive.url, archive.path):
            fact = f"common_crawl: two archives are called {archive.id}"
            cause = f"{shown(other.url or other.path)} and {shown(archive.url or archive.path)}"
            raise UserError(Problem(fact, cause, "read them as two sources, or give them names of their own"))
    return by_id


def _fits(name: str) -> bool:
    for packed in _PACKED:
        name = name.removesuffix(packed)
    return name.endswith(_KINDS)


def _told() -> str:
    return f"{', '.join(_KINDS)}, also with {', '.join(_PACKED)}"


def _id_of(url: str) -> str:
    """Host and path: a query may hold a key that nobody should find in a corpus."""
    parts = urlsplit(url)
    return f"{parts.hostname or ''}{parts.path}"


def _listed(config: CommonCrawlConfig) -> Iterator[Archive]:
    listing = config.listing or ""
    lines = [line.strip() for line in _lines(listing, config)]
    names = [line for line in lines if line and not line.startswith("#")]
    if not names:
        fact, cause = f"common_crawl.listing: {shown(listing)} names no archive", "it has no lines"
        raise UserError(Problem(fact, cause, "give a file with one path a line, as Common Crawl's warc.paths.gz"))
    for name in names[: config.first or None]:
        yield _archive(name, config)


def _archive(name: str, config: CommonCrawlConfig) -> Archive:
    if is_url(name):
        check_url(name)
        return Archive(_id_of(name), url=name)
    parts = name.split("/")
    if "://" in name or ".." in parts or os.path.isabs(name) or not name.isprintable():
        fact, cause = (
            f"common_crawl.listing: {shown(name)[:80]!r} is no path",
            "paths are relative to common_crawl.base",
        )
        raise UserError(Problem(fact, cause, "take that line out, or give another listing"))
    if is_url(config.base):
        return Archive(name, url=f"{config.base.rstrip('/')}/{name}")
    path = os.path.join(os.path.expanduser(config.base), *parts)
    if not os.path.isfile(path):
        fact, cause = f"common_crawl.listing: {path} does not exist", f"the listing names {name}"
        raise UserError(Problem(fact, cause, "set common_crawl.base to the URL or folder that holds the archives"))
    return Archive(name, path=path)


def _lines(listing: str, config: CommonCrawlConfig) -> list[str]:
    try:
        if is_url(listing):
            with Download(listing, "", config.timeout, config.retries) as stream:
                data = stream.read_all(LISTING)
        else:
            with open(os.path.expanduser(listing), "rb") as file:
                data = file.read(LISTING)
        if data.startswith(b"\x1f\x8b"):
            with gzip.open(io.BytesIO(data)) as unpacked:
                data = unpacked.read(LISTING)
        return data.decode("utf-8").splitlines()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        fact = f"common_crawl.listing: {shown(listing)} cannot be read"
        raise UserError(Problem(fact, cause, "give a text file (or .gz) with one path a line")) from None
