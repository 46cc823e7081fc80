"""Data source ``common_crawl``: the pages of WARC, ARC and WET files, local or by http(s)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

from lmgraft.errors import Problem, UserError
from lmgraft.seams.data_source import Damaged, Document, Unit, Unreadable

from lmgraft_web.archive_bytes import chunks
from lmgraft_web.archives import Archive, find_archives
from lmgraft_web.charset import decode
from lmgraft_web.framing import Broken, NoArchive, Record, read_records
from lmgraft_web.payload import Faulty, Payload, host_of, payload_of
from lmgraft_web.plugin import CommonCrawlConfig
from lmgraft_web.remote import Download, pinned

__all__ = ["CommonCrawl"]

_REMEDIES = {
    "too_long": "raise common_crawl.record_bytes, or let the stage count it: corrupt=quarantine",
    "bad_digest": "fetch the archive again; common_crawl.verify=false takes such pages as they are",
    "bad_members": "recompress the archive: fastwarc recompress OLD NEW",
}
_FETCH = "fetch the archive again, or let the stage count what is broken: corrupt=quarantine"


class CommonCrawl:
    """Responses (and resources) of HTML types, and WET's plain text, a document each. A unit is an archive.

    A document's id is its archive's and the record's place in it: ids of records may come twice, in copies of an
    archive. ``meta`` has ``url``, ``date``, ``mime``, ``charset``, ``digest``, ``record_id``, ``status``, ``ip``,
    ``truncated`` (why the crawler cut it) and ``replaced`` (characters that could not be decoded), as far as known.
    The host is its group.

    What is broken stands as :class:`Damaged`, with these reasons: ``bad_header``, ``bad_length``, ``bad_members``,
    ``truncated``, ``bad_gzip``, ``bad_zstd``, ``bad_lz4``, ``bad_digest``, ``bad_http``, ``bad_encoding``,
    ``too_long``, ``empty``. Records of other types and pages of other MIME types or statuses are left out: that is
    what the settings ask for.

    Formats: ISO 28500 (WARC 1.0, 1.1), the Internet Archive's ARC 1 and 2, IIPC's "Zstandard in WARC". Not done:
    segments of a record (``continuation``), and the pages that ``revisit`` records refer to.
    """

    def __init__(self, config: CommonCrawlConfig) -> None:
        self.config = config
        self._known: dict[str, Archive] | None = None

    def units(self) -> list[Unit]:
        """An archive each, sorted by id. Raises UserError where one is missing, or a server does not answer."""
        archives = self._archives().values()
        remote = [(archive.id, archive.url) for archive in archives if archive.url]
        found = [_local(archive) for archive in archives if not archive.url]
        found += pinned(remote, self.config.timeout, self.config.retries) if remote else []
        return sorted(found, key=lambda unit: unit.id)

    def read(self, unit: Unit, offset: int) -> Iterator[Document | Damaged]:
        """The documents of an archive after its first ``offset``. Raises UserError for what is no archive."""
        passed = 0
        with self._opened(unit) as raw:
            for found in self._found(unit, raw):
                if passed < offset:
                    passed += not isinstance(found, Damaged)
                elif isinstance(found, Damaged):
                    yield found
                else:
                    yield self._document(unit, *found)

    def _archives(self) -> dict[str, Archive]:
        if self._known is None:
            self._known = find_archives(self.config)
        return self._known

    def _opened(self, unit: Unit) -> BinaryIO | Download:
        if unit.path is not None:
            return _open(unit.path)
        archive = self._archives()[unit.id]
        return Download(archive.url, unit.digest or "", self.config.timeout, self.config.retries)

    def _found(self, unit: Unit, raw: BinaryIO | Download) -> Iterator[tuple[Record, Payload] | Damaged]:
        config, empty = self.config, True
        mimes = frozenset(name.lower() for name in config.mime)
        try:
            for record in read_records(chunks(raw), config.record_bytes):
                empty = False
                if isinstance(record, Broken):
                    yield _damaged(unit, record.place, record.reason, record.cause, record.bytes)
                    continue
                try:
                    payload = payload_of(record, mimes, config.status, config.verify, config.record_bytes)
                except Faulty as error:
                    yield _damaged(unit, record.place, error.reason, error.cause, record.length)
                    continue
                if payload is not None:
                    yield record, payload
                elif record.fault:
                    yield _damaged(unit, record.place, record.fault, record.cause, record.length)
        except NoArchive:
            cause = "it begins with neither WARC/1.x nor an ARC's line"
            fact = f"common_crawl: {unit.id} is no web archive"
            raise Unreadable(
                "no_archive", Problem(fact, cause, "saved pages are read by html_pages, text and rows by files")
            ) from None
        except OSError as error:
            fact = f"common_crawl: {unit.id} cannot be read"
            raise UserError(Problem(fact, error.strerror or str(error), "check the disk and who may read it")) from None
        if empty:
            yield _damaged(unit, "0", "empty", "it holds no record", 0)

    def _document(self, unit: Unit, record: Record, payload: Payload) -> Document:
        decoded = decode(payload.data, payload.charset, payload.markup)
        meta = {**payload.meta, "charset": decoded.charset}
        if decoded.replaced:
            meta["replaced"] = decoded.replaced
        return Document(
            id=f"{unit.id}:{record.place}", text=decoded.text, group=host_of(meta.get("url", "")), meta=meta
        )


def _local(archive: Archive) -> Unit:
    return Unit(id=archive.id, path=archive.path, size=os.path.getsize(archive.path))


def _open(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        fact, cause = f"common_crawl: {path} cannot be read", error.strerror or str(error)
        raise UserError(Problem(fact, cause, "check that it exists and who may read it")) from None


def _damaged(unit: Unit, place: str, reason: str, cause: str, size: int) -> Damaged:
    fact = f"common_crawl: {unit.id}: the record at byte {place} is damaged ({reason})"
    return Damaged(reason, Problem(fact, cause, _REMEDIES.get(reason, _FETCH)), size)
