"""``common_crawl`` by http, from a server of the tests' own: pins, connections that break, redirects, refusals."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from typing import Any

import pytest
from lmgraft.errors import UserError
from lmgraft.seams.data_source import Damaged, Document, Unreachable
from lmgraft_web import remote
from lmgraft_web.common_crawl import CommonCrawl
from lmgraft_web.conformance import record
from lmgraft_web.plugin import CommonCrawlConfig

PAGES = [f"<html><p>{'long ' * 400}page {number}</p></html>" for number in range(40)]
ARCHIVE = b"".join(gzip.compress(record("response", n, page.encode()), compresslevel=0) for n, page in enumerate(PAGES))


@dataclass
class Server:
    """A server of a few files, and how it behaves."""

    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    cut: list[int] = field(default_factory=list)
    """Of the next GETs: so many bytes and the connection ends."""
    codes: list[int] = field(default_factory=list)
    """The next answers."""
    ranges: bool = True
    head: bool = True
    etag: bool = True
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and range of every request."""
    url: str = ""

    def answer(self, handler: Any, method: str) -> None:
        path, span = handler.path.partition("?")[0], handler.headers.get("Range", "")
        self.asked.append((method, path, span))
        code = self.codes.pop(0) if self.codes else 405 if method == "HEAD" and not self.head else 0
        if path in self.redirects or code or path not in self.files:
            handler.send_response(302 if path in self.redirects else code or 404)
            if path in self.redirects:
                handler.send_header("Location", self.redirects[path])
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        data, start = self.files[path], 0
        if span and self.ranges:
            start = int(span.removeprefix("bytes=").partition("-")[0])
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            handler.send_response(200)
        handler.send_header("Content-Length", str(len(data) - start))
        if self.etag:
            handler.send_header("ETag", f'"{hashlib.md5(data).hexdigest()}"')
        handler.end_headers()
        if method == "GET":
            most = self.cut.pop(0) if self.cut else len(data)
            handler.wfile.write(data[start : start + most])
            handler.wfile.flush()
            if start + most < len(data):
                handler.connection.shutdown(socket.SHUT_RDWR)
            handler.close_connection = True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server(files={"/a.warc.gz": ARCHIVE})

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.answer(self, "GET")

        def do_HEAD(self) -> None:
            state.answer(self, "HEAD")

        def log_message(self, *args: object) -> None:
            pass

    monkeypatch.setattr(remote, "WAIT", 0.01)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{running.server_port}"
    yield state
    running.shutdown()
    running.server_close()
    thread.join()


def source(server: Server, path: str | None = "/a.warc.gz", **settings: Any) -> CommonCrawl:
    return CommonCrawl(
        CommonCrawlConfig(**{"path": path and server.url + path, "timeout": 5, "retries": 3, **settings})
    )


def read(part: CommonCrawl) -> list[str]:
    found = [one for unit in part.units() for one in part.read(unit, 0)]
    return [one.text or "" if isinstance(one, Document) else one.reason for one in found]


def test_a_url(server: Server) -> None:
    part = source(server)
    (unit,) = part.units()
    assert unit.path is None
    assert unit.size == len(ARCHIVE)
    assert unit.digest == f'"{hashlib.md5(ARCHIVE).hexdigest()}" {len(ARCHIVE)}'
    assert unit.id == "127.0.0.1/a.warc.gz"
    assert read(part) == PAGES
    assert [one.text for one in part.read(unit, 38) if isinstance(one, Document)] == PAGES[38:]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_connection_that_breaks_is_taken_up(server: Server, ranges: bool) -> None:
    server.ranges = ranges
    server.cut = [30_000, 1, 20_000] if ranges else [30_000, 40_000, 60_000]
    assert read(source(server)) == PAGES
    spans = [span for method, _, span in server.asked if method == "GET"]
    assert spans[:2] == ["", "bytes=30000-"]
    assert len(spans) == 4


def test_a_server_that_stays_broken_is_told(server: Server) -> None:
    server.cut = [1000, 0, 0, 0, 0, 0]
    with pytest.raises(Unreachable, match="cannot be reached") as caught:
        read(source(server))
    assert "4 attempts" in str(caught.value)


@pytest.mark.parametrize(("codes", "said"), [([404], "404"), ([403], "403"), ([503] * 9, "503")])
def test_refusals(server: Server, codes: list[int], said: str) -> None:
    server.codes, server.head = codes, True
    if said == "403":  # some servers refuse HEAD only
        server.codes = [403, 403]
    with pytest.raises(UserError, match="was refused") as caught:
        source(server).units()
    assert said in str(caught.value)


def test_busy_servers_are_asked_again(server: Server) -> None:
    server.codes = [503, 429]
    assert read(source(server)) == PAGES


def test_a_server_without_head(server: Server) -> None:
    server.head = False
    assert read(source(server)) == PAGES


def test_nothing_to_pin_it_by(server: Server) -> None:
    server.etag = False
    with pytest.raises(UserError, match="cannot be pinned"):
        source(server).units()


def test_content_that_changed_is_told(server: Server) -> None:
    part = source(server)
    (unit,) = part.units()
    server.files["/a.warc.gz"] = ARCHIVE[:-1] + b"x"
    with pytest.raises(Unreachable, match="has changed since it was listed"):
        list(part.read(unit, 0))


def test_content_that_changes_between_two_connections_is_told(server: Server) -> None:
    part = source(server)
    found = part.read(part.units()[0], 0)
    server.cut = [50_000]
    assert isinstance(next(found), Document)
    server.files["/a.warc.gz"] = ARCHIVE + b"x"
    with pytest.raises(UserError, match="has changed"):
        list(found)


def test_redirects_lead_to_http_only(server: Server, tmp_path: Any) -> None:
    secret = tmp_path / "a.warc.gz"
    secret.write_bytes(ARCHIVE)
    server.redirects = {"/moved": "/a.warc.gz"}
    assert read(source(server, "/moved")) == PAGES
    for target in (f"file://{secret}", "ftp://127.0.0.1/a", "data:text/plain,x"):
        server.redirects = {"/moved": target}
        with pytest.raises(UserError, match="refused"):
            source(server, "/moved").units()
    server.redirects = {"/moved": "/moved"}
    with pytest.raises(UserError):
        source(server, "/moved").units()


def test_a_listing_by_url(server: Server) -> None:
    server.files["/warc.paths.gz"] = gzip.compress(b"a.warc.gz\nb.warc.gz\n")
    server.files["/b.warc.gz"] = gzip.compress(record("response", 1, b"<p>b</p>"))
    listed = {"listing": f"{server.url}/warc.paths.gz", "base": server.url}
    part = source(server, None, **listed)
    assert [unit.id for unit in part.units()] == ["a.warc.gz", "b.warc.gz"]
    assert read(part) == [*PAGES, "<p>b</p>"]
    assert len(source(server, None, **listed, first=1).units()) == 1


def test_keys_in_urls_stay_secret(server: Server) -> None:
    part = source(server, "/a.warc.gz?signature=SECRET")
    found = [one for unit in part.units() for one in part.read(unit, 0)]
    assert "SECRET" not in repr([unit.id for unit in part.units()]) + repr(found)
    server.files.clear()
    with pytest.raises(UserError) as caught:
        source(server, "/a.warc.gz?signature=SECRET").units()
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["http://me:SECRET@127.0.0.1/a.warc.gz", "http://127.0.0.1:SECRET/a.warc.gz", "http://[::1/a.warc.gz?SECRET",
     "https://me:SECRET@127.0.0.1:9/a.warc.gz?k=SECRET"],
)  # fmt: skip
def test_addresses_that_cannot_be_asked_for_are_told_without_their_secrets(address: str, tmp_path: Any) -> None:
    told = [*CommonCrawlConfig(path=address).check(), *CommonCrawlConfig(listing=address).check()]
    told += CommonCrawlConfig(listing="x", base=address).check()
    assert len(told) == 3
    listing = tmp_path / "listing"
    listing.write_text(address + "\n")
    part = CommonCrawl(CommonCrawlConfig(listing=str(listing), retries=0, timeout=5))
    for ask in (part.units, lambda: remote.pinned([("a", address)], 5, 0), lambda: remote.Download(address, "", 5, 0)):
        with pytest.raises(UserError) as caught:
            ask()
        told.append(str(caught.value))
    assert "SECRET" not in repr(told)


def test_two_archives_of_one_name_are_told_without_their_keys() -> None:
    same = ["https://example.org/a.warc.gz?key=SECRET", "https://example.org/a.warc.gz?key=SECRETTOO"]
    with pytest.raises(UserError, match="two archives") as caught:
        CommonCrawl(CommonCrawlConfig(path=same)).units()
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("target", ["http://[bad/x", "http://h:port/x"])
def test_redirects_to_what_is_no_address_are_told(server: Server, target: str) -> None:
    server.redirects["/away"] = target
    with pytest.raises(Unreachable):
        source(server, "/away").units()


@pytest.mark.parametrize(
    ("origin", "target", "refused"),
    [
        ("http://example.org/a", "http://169.254.169.254/latest/meta-data", True),
        ("http://example.org/a", "http://localhost:8080/", True),
        ("http://example.org/a", "http://[::1]/", True),
        ("http://example.org/a", "http://[::ffff:127.0.0.1]/", True),
        ("http://example.org/a", "https://data.example.org/a", False),
        ("http://10.0.0.3/a", "http://10.0.0.4/a", False),
    ],
)
def test_no_redirect_leads_into_this_network(origin: str, target: str, refused: bool) -> None:
    request = urllib.request.Request(origin)
    follow = remote._SameWeb().redirect_request
    if not refused:
        assert follow(request, None, 302, "", Message(), target).full_url == target
        return
    with pytest.raises(urllib.error.URLError, match="refused"):
        follow(request, None, 302, "", Message(), target)


def test_offline() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = CommonCrawlConfig(path=f"http://127.0.0.1:{port}/a.warc.gz", retries=0, timeout=2)
    with pytest.raises(UserError) as caught:
        CommonCrawl(config).units()
    (problem,) = caught.value.problems
    assert "cannot be reached" in problem.fact
    assert "HTTPS_PROXY" in problem.remedy


def test_a_cut_archive_is_damaged_not_retried(server: Server) -> None:
    server.files["/a.warc.gz"] = ARCHIVE[:-10]
    part = source(server)
    found = [one for unit in part.units() for one in part.read(unit, 0)]
    assert [one.reason for one in found if isinstance(one, Damaged)] == ["truncated"]
    assert len(found) in (len(PAGES), len(PAGES) + 1)
