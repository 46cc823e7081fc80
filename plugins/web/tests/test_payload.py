"""What a record's page is: types, codes, digests, and bodies that are packed or only say so."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import zlib
from typing import Any

import pytest
from lmgraft_web.archive_bytes import chunks
from lmgraft_web.conformance import record
from lmgraft_web.framing import Record, read_records
from lmgraft_web.payload import Faulty, Payload, digest_holds, host_of, payload_of

HTML = ("text/html", "application/xhtml+xml")
PAGE = b"<html><p>hi</p></html>"


def http(body: bytes, *lines: str, status: str = "HTTP/1.1 200 OK", **headers: str) -> Record:
    head = "\r\n".join([status, *(lines or ["Content-Type: text/html"])])
    block = head.encode() + b"\r\n\r\n" + body
    made = record("request", 1, block, WARC_Type="response", Content_Type="application/http; msgtype=response")
    digest = base64.b32encode(hashlib.sha1(body).digest()).decode()
    old = made.partition(b"WARC-Payload-Digest: ")[2].partition(b"\r\n")[0]
    made = made.replace(old, headers.get("digest", f"sha1:{digest}").encode())
    (found,) = read_records(chunks(io.BytesIO(made)), 1 << 20)
    assert isinstance(found, Record)
    return found


def payload(one: Record, mimes: Any = HTML, statuses: Any = (200,), verify: bool = True, limit: int = 1 << 20) -> Any:
    return payload_of(one, mimes, statuses, verify, limit)


def reason(one: Record, **settings: Any) -> str:
    with pytest.raises(Faulty) as caught:
        payload(one, **settings)
    return caught.value.reason


def test_a_page() -> None:
    found = payload(http(PAGE, "Content-Type: Text/HTML; Charset=UTF-8"))
    assert isinstance(found, Payload)
    assert (found.data, found.charset, found.markup) == (PAGE, "UTF-8", True)
    assert found.meta["mime"] == "text/html"
    assert found.meta["status"] == 200
    assert found.meta["url"] == "http://example1.com/1"
    assert found.meta["date"] == "2024-02-28T12:00:00Z"


def test_other_types_and_codes_are_left_out() -> None:
    assert payload(http(PAGE, "Content-Type: image/png")) is None
    assert payload(http(PAGE, status="HTTP/1.1 404 Not Found")) is None
    assert payload(http(PAGE, status="HTTP/1.1 404 Not Found"), statuses=()).meta["status"] == 404
    assert payload(http(PAGE, "Content-Type: image/png"), mimes=["image/png"]).data == PAGE


def test_a_page_without_a_type_is_looked_at() -> None:
    assert payload(http(b"<!DOCTYPE html>" + PAGE * 9, "Server: x")).meta["mime"] == "text/html"
    assert payload(http(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\0\1\2\3" * 99, "Server: x")) is None


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512", "md5"])
def test_digests(algorithm: str) -> None:
    digest = hashlib.new(algorithm, PAGE).digest()
    for value in (digest.hex(), base64.b32encode(digest).decode()):
        assert digest_holds(http(PAGE, digest=f"{algorithm}:{value}")) is True
        assert reason(http(PAGE + b"x", digest=f"{algorithm}:{value}")) == "bad_digest"
    assert payload(http(PAGE, digest="sha1:AAAA"), verify=False).data == PAGE
    assert digest_holds(http(PAGE, digest="blake9:AAAA")) is None


def chunked(data: bytes, size: int = 7) -> bytes:
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


TYPE = "Content-Type: text/html"
CHUNKED, PACKED = "Transfer-Encoding: chunked", "Content-Encoding: gzip"


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (chunked(PAGE), [CHUNKED]),
        (gzip.compress(PAGE, mtime=0), [PACKED]),
        (chunked(gzip.compress(PAGE, mtime=0)), [CHUNKED, PACKED]),
        (zlib.compress(PAGE), ["Content-Encoding: deflate"]),
        (PAGE, [CHUNKED]),
        (PAGE, [PACKED]),
        (PAGE, [CHUNKED, PACKED]),
        (chunked(PAGE), [CHUNKED, PACKED]),
        (gzip.compress(PAGE, mtime=0), [CHUNKED, PACKED]),
        (PAGE, ["Content-Encoding: br"]),
        (PAGE, ["Content-Encoding: deflate"]),
        (PAGE, ["Content-Encoding: identity"]),
    ],
)
def test_bodies_that_are_packed_or_only_say_so(body: bytes, lines: list[str]) -> None:
    assert payload(http(body, TYPE, *lines)).data == PAGE


def test_bodies_that_cannot_be_decoded() -> None:
    assert reason(http(b"7\r\n<html><\r\nzz\r\n", TYPE, CHUNKED)) == "bad_encoding"
    assert reason(http(gzip.compress(PAGE, mtime=0)[:12] + b"\xff" * 20, TYPE, PACKED)) == "bad_encoding"
    assert reason(http(b"\x01\x02\x03", TYPE, "Content-Encoding: sdch")) == "bad_encoding"
    assert reason(http(PAGE, status="\x00\xff")) == "bad_http"


def test_bombs_are_told() -> None:
    assert reason(http(gzip.compress(b"a" * 5_000_000, mtime=0), TYPE, PACKED)) == "too_long"
    assert reason(http(PAGE), limit=10) == "too_long"


def test_wet_and_resources() -> None:
    def one(kind: str, body: bytes, **more: str) -> Record:
        (found,) = read_records(chunks(io.BytesIO(record(kind, 1, body, **more))), 1 << 20)
        assert isinstance(found, Record)
        return found

    text = payload(one("conversion", b"plain"))
    assert (text.data, text.markup, text.meta["mime"]) == (b"plain", False, "text/plain")
    assert payload(one("conversion", b"<a/>", Content_Type="text/html")) is None
    assert payload(one("resource", PAGE)).markup
    assert payload(one("metadata", b"{}")) is None
    assert payload(one("request", b"")) is None


@pytest.mark.parametrize(
    ("url", "host"),
    [("HTTPS://WWW.A.example.:8080/x", "www.a.example"), ("http://[::1", ""), ("dns:a", ""), ("", ""), ("//", "")],
)
def test_hosts(url: str, host: str) -> None:
    assert host_of(url) == host
