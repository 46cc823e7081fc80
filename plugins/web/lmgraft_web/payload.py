"""What a record holds, read by FastWARC: the page's bytes, checked against their digest and decoded."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import zlib
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from lmgraft_web.framing import Record

__all__ = ["Faulty", "Payload", "digest_holds", "host_of", "payload_of"]

_CHUNK_LINE = re.compile(rb"[0-9a-fA-F]{1,16}[ \t]*(;[^\r\n]*)?\r?\n")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:-]+)", re.I)
#: What FastWARC can compute.
_DIGESTS = ("sha1:", "sha256:", "sha512:", "md5:")


class Faulty(Exception):
    """A record that should be a document and cannot be read: ``reason`` (a word) and its cause."""

    def __init__(self, reason: str, cause: str) -> None:
        super().__init__(reason, cause)
        self.reason, self.cause = reason, cause


@dataclass(frozen=True, slots=True)
class Payload:
    """The bytes that one document is made of."""

    data: bytes
    charset: str | None
    """As HTTP declares it."""
    markup: bool
    meta: dict[str, Any] = field(default_factory=dict)


def payload_of(
    record: Record, mimes: Collection[str], statuses: Collection[int], verify: bool, limit: int
) -> Payload | None:
    """The payload of a response or resource of one of ``mimes`` (and ``statuses``; none: all), or of a conversion to
    plain text (WET); None for what is something else.

    Raises Faulty where its digest is wrong, its HTTP header or encoding cannot be read, or it takes over ``limit``
    bytes.
    """
    if record.type not in ("response", "resource", "conversion"):
        return None
    warc = _parsed(record)
    meta = _meta(warc)
    if not (record.type == "response" and warc.is_http):
        mime, charset = _content_type(_get(warc.headers, "Content-Type"))
        wanted = mime == "text/plain" if record.type == "conversion" else mime in mimes
        if not wanted:
            return None
        _check(record, verify, limit)
        return Payload(record.block, charset, record.type == "resource", {**meta, "mime": mime})
    return _response(record, warc, meta, mimes, statuses, verify, limit)


def _response(
    record: Record,
    warc: Any,
    meta: dict[str, Any],
    mimes: Collection[str],
    statuses: Collection[int],
    verify: bool,
    limit: int,
) -> Payload | None:
    try:
        warc.freeze()
        warc.parse_http()
        status = warc.http_headers.status_code
    except (OSError, ValueError) as error:
        raise Faulty("bad_http", f"its HTTP header cannot be read: {error}") from None
    if status is None:
        raise Faulty("bad_http", "its HTTP header does not begin with a status")
    header = _get(warc.http_headers, "Content-Type")
    mime, charset = _content_type(header)
    identified = _get(warc.headers, "WARC-Identified-Payload-Type").lower()
    if not mime and not identified and record.block:
        mime = _sniffed(record)
    if (statuses and status not in statuses) or not {mime, identified} & set(mimes):
        return None
    _check(record, verify, limit, warc)
    meta["mime"] = identified if identified in mimes else mime
    meta["status"] = status
    return Payload(_body(record, warc, limit), charset, True, meta)


def digest_holds(record: Record, parsed: Any = None) -> bool | None:
    """Whether the record's payload digest (where it has none, its block digest) is that of its bytes; None where it
    has none that can be computed. ``parsed`` is FastWARC's record, frozen and with its HTTP header parsed."""
    warc = parsed or _parsed(record)
    payload, block = (_get(warc.headers, f"WARC-{what}-Digest").lower() for what in ("Payload", "Block"))
    if record.type == "revisit":
        return None  # its digest is that of the record which it refers to
    if not payload.startswith(_DIGESTS):
        return _is_digest_of(block, record.block) if block.startswith(_DIGESTS) else None
    if not warc.is_http:
        return _is_digest_of(payload, record.block)  # FastWARC knows payloads of HTTP only
    try:
        if parsed is None:
            warc.freeze()
            warc.parse_http()
        return bool(warc.verify_payload_digest())
    except (OSError, ValueError):
        return False


def host_of(url: str) -> str:
    """The host of a URL in small letters, empty where it has none."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_digest_of(named: str, data: bytes) -> bool:
    algorithm, _, value = named.partition(":")
    digest = hashlib.new(algorithm, data).digest()
    return value in (digest.hex(), base64.b32encode(digest).decode().lower())


def _parsed(record: Record) -> Any:
    from fastwarc.warc import WarcRecord

    return WarcRecord.from_reader(io.BytesIO(record.head + record.block))


def _check(record: Record, verify: bool, limit: int, warc: Any = None) -> None:
    if record.fault:
        raise Faulty(record.fault, record.cause)
    if record.length > limit:
        raise Faulty("too_long", f"it takes {record.length} bytes, and record_bytes is {limit}")
    if verify and digest_holds(record, warc) is False:
        raise Faulty("bad_digest", "its bytes are not those that its digest was taken of")


def _body(record: Record, warc: Any, limit: int) -> bytes:
    """The payload without transfer and content encoding; as it is where a header says of bytes that were decoded
    already that they are encoded, as crawlers leave it."""
    transfer = _get(warc.http_headers, "Transfer-Encoding").lower()
    content = _get(warc.http_headers, "Content-Encoding").lower().strip()
    raw = bytes(warc.reader.read())
    chunked = "chunked" in transfer and _CHUNK_LINE.match(raw) is not None
    if chunked:
        raw = _decoded(record, "transfer", limit)
    if content in ("", "identity"):
        return raw
    if content in ("gzip", "x-gzip"):
        return _gunzipped(raw, limit, "WARC-Truncated" in warc.headers) if raw.startswith(b"\x1f\x8b") else raw
    if content in ("br", "deflate") and raw.lstrip()[:1] == b"<":
        return raw
    return _decoded(record, "all" if chunked or "chunked" not in transfer else "content", limit)


def _gunzipped(data: bytes, limit: int, may_be_cut: bool) -> bytes:
    """FastWARC takes a body that was cut short for a whole one."""
    inner = zlib.decompressobj(31)
    try:
        out = inner.decompress(data, limit + 1)
    except zlib.error as error:
        raise Faulty("bad_encoding", f"decoding its body failed: {error}") from None
    if len(out) > limit:
        raise Faulty("too_long", f"decoded it takes more than {limit} bytes (record_bytes)")
    if not inner.eof and not may_be_cut:
        raise Faulty("bad_encoding", "its gzip body is cut short")
    return out


def _decoded(record: Record, what: str, limit: int) -> bytes:
    warc = _parsed(record)
    try:
        warc.parse_http(auto_decode=what)
        data = bytes(warc.reader.read(limit + 1))
    except (OSError, ValueError) as error:
        raise Faulty("bad_encoding", f"decoding its body failed: {error}") from None
    if len(data) > limit:
        raise Faulty("too_long", f"decoded it takes more than {limit} bytes (record_bytes)")
    return data


def _sniffed(record: Record) -> str:
    from resiliparse.parse.encoding import detect_mime

    body = record.block.partition(b"\r\n\r\n")[2]
    return str(detect_mime(body[:4096]))


def _meta(warc: Any) -> dict[str, Any]:
    """What the record's header tells, under our names; nothing where it is silent."""
    names = {
        "url": "WARC-Target-URI",
        "date": "WARC-Date",
        "ip": "WARC-IP-Address",
        "digest": "WARC-Payload-Digest",
        "record_id": "WARC-Record-ID",
        "truncated": "WARC-Truncated",
    }
    found = {ours: _get(warc.headers, theirs) for ours, theirs in names.items()}
    found["url"] = found["url"].removeprefix("<").removesuffix(">")  # WARC 1.0 writes it so
    return {key: value for key, value in found.items() if value}


def _get(headers: Any, name: str) -> str:
    value = headers.get_bytes(name.encode())
    return bytes(value).decode("utf-8", "replace").strip() if value else ""


def _content_type(value: str) -> tuple[str, str | None]:
    charset = _CHARSET.search(value)
    return value.partition(";")[0].strip().lower(), charset[1] if charset else None
