"""A hub in small: serves datasets from memory by the few addresses that huggingface_hub and datasets ask for."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

__all__ = ["Hub", "serving"]

Tree = Mapping[str, bytes]


class Hub:
    """Repositories: name -> commit -> path -> bytes, and what each branch or tag points at."""

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, Tree]] = {}
        self.names: dict[str, dict[str, str]] = {}
        self.asked: list[str] = []
        self.gone = False
        """Answer nothing more: the connection is closed."""

    def push(self, repo: str, tree: Tree, *refs: str) -> str:
        """Adds a commit and moves ``refs`` (``main`` by default) to it; its 40 hex digits."""
        told = json.dumps({path: hashlib.sha256(data).hexdigest() for path, data in sorted(tree.items())})
        commit = hashlib.sha1(f"{repo} {told}".encode()).hexdigest()
        self.commits.setdefault(repo, {})[commit] = dict(tree)
        self.names.setdefault(repo, {}).update(dict.fromkeys(refs or ("main",), commit))
        return commit


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self._answer(body)

    def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002

    def _answer(self, body: str = "") -> None:
        address = urlsplit(self.path)
        self.hub.asked.append(f"{self.command} {self.path}")
        if address.path.startswith("/-/"):  # for tests: goes away, or comes back
            self.hub.gone = address.path == "/-/gone"
            return self._send(200, b"", {})
        if self.hub.gone:
            self.close_connection = True
            return
        path = unquote(address.path)
        for pattern, work in (
            (r"/api/datasets/(?P<repo>[^/]+/[^/]+)(?:/revision/(?P<rev>.+))?", self._info),
            (r"/api/datasets/(?P<repo>[^/]+/[^/]+)/tree/(?P<rev>[^/]+)/?(?P<path>.*)", self._tree),
            (r"/api/datasets/(?P<repo>[^/]+/[^/]+)/paths-info/(?P<rev>[^/]+)", self._paths),
            (r"/datasets/(?P<repo>[^/]+/[^/]+)/resolve/(?P<rev>[^/]+)/(?P<path>.+)", self._file),
        ):
            found = re.fullmatch(pattern, path)
            if found and (work != self._info or ("/tree/" not in path and "/paths-info/" not in path)):
                return self._work(work, found.groupdict(), address.query, body)
        self._error(404, "EntryNotFound")

    def _work(self, work: Any, names: dict[str, str], query: str, body: str) -> None:
        repo = names["repo"]
        if repo not in self.hub.commits:
            return self._error(404, "RepoNotFound")
        commit = self.hub.names[repo].get(names.get("rev") or "main", names.get("rev"))
        if commit not in self.hub.commits[repo]:
            return self._error(404, "RevisionNotFound")
        work(repo, commit, self.hub.commits[repo][commit], names.get("path") or "", parse_qs(body or query))

    def _info(self, repo: str, commit: str, tree: Tree, path: str, more: Any) -> None:
        files = [{"rfilename": name, "size": len(data), "blobId": _oid(data)} for name, data in sorted(tree.items())]
        told = {"_id": "0", "id": repo, "sha": commit, "siblings": files, "private": False, "gated": False}
        self._json({**told, "disabled": False, "downloads": 0, "likes": 0, "tags": []})

    def _tree(self, repo: str, commit: str, tree: Tree, path: str, more: Any) -> None:
        below = {name: data for name, data in tree.items() if not path or name.startswith(path.rstrip("/") + "/")}
        if path and not below:
            return self._error(404, "EntryNotFound")
        recursive = more.get("recursive", ["false"])[0].lower() in ("true", "1")
        self._json(_entries(below, path.rstrip("/"), recursive))

    def _paths(self, repo: str, commit: str, tree: Tree, path: str, more: Any) -> None:
        found = []
        for wanted in more.get("paths", []):
            if wanted in tree:
                found += [_entry(wanted, tree[wanted])]
            elif any(name.startswith(wanted + "/") for name in tree):
                found += [{"type": "directory", "path": wanted, "oid": "0" * 40, "size": 0}]
        self._json(found)

    def _file(self, repo: str, commit: str, tree: Tree, path: str, more: Any) -> None:
        if path not in tree:
            return self._error(404, "EntryNotFound")
        data, status, headers = tree[path], 200, {"ETag": f'"{_oid(tree[path])}"', "X-Repo-Commit": commit}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked:
            start, end = int(asked[1]), min(int(asked[2] or len(data) - 1), len(data) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
            data, status = data[start : end + 1], 206
        self._send(status, data, {**headers, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"})

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, code: str) -> None:
        body = json.dumps({"error": code}).encode()
        self._send(status, body, {"X-Error-Code": code, "X-Error-Message": code, "Content-Type": "application/json"})

    def _send(self, status: int, data: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _oid(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def _entry(path: str, data: bytes) -> dict[str, Any]:
    return {"type": "file", "path": path, "oid": _oid(data), "size": len(data)}


def _entries(tree: Tree, path: str, recursive: bool) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, data in sorted(tree.items()):
        inner = name[len(path) + 1 :] if path else name
        parts = inner.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(([path] if path else []) + parts[:depth])
            if recursive or depth == 1:
                found[folder] = {"type": "directory", "path": folder, "oid": "0" * 40, "size": 0}
        if recursive or len(parts) == 1:
            found[name] = _entry(name, data)
    return list(found.values())


@contextmanager
def serving(hub: Hub) -> Iterator[str]:
    """The address at which ``hub`` answers."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
