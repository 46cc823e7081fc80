"""Lists of domains, URLs and words, read from files and folders, and kept as sorted hashes that workers share.

A list of five million domains takes 40 MB so, once for all workers, and half a gigabyte in each as a set of strings.
Two strings of one 64-bit hash: one in 10^12 or fewer for such a list.
"""

from __future__ import annotations

import gzip
import ipaddress
import os
import zlib
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np
from lmgraft.errors import Problem, UserError

__all__ = ["HashList", "domains_in", "host_key", "url_key", "urls_in", "words_in"]

Line = tuple[str, int, str]
_OWN = frozenset(
    {"localhost", "localhost.localdomain", "broadcasthost", "local", "ip6-localhost", "ip6-loopback", "0.0.0.0"}
)


class HashList:
    """A set of strings that can be asked and not listed."""

    def __init__(self, hashes: np.ndarray) -> None:
        self.hashes = hashes

    @classmethod
    def of(cls, found: Iterator[str]) -> HashList:
        data = bytearray()
        for name in found:
            data += _hash(name)
        return cls(np.unique(np.frombuffer(bytes(data), dtype="<u8")))

    @classmethod
    def load(cls, path: Path) -> HashList:
        return cls(np.load(path, mmap_mode="r", allow_pickle=False))

    def save(self, path: Path) -> None:
        """Whole or not at all: another worker may be loading it."""
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        with part.open("wb") as file:
            np.save(file, self.hashes, allow_pickle=False)
        part.replace(path)

    def __len__(self) -> int:
        return len(self.hashes)

    def first(self, names: list[str]) -> int:
        """The place of the first of ``names`` that is in the list; -1 where none is."""
        if not names or not len(self.hashes):
            return -1
        asked = np.frombuffer(b"".join(map(_hash, names)), dtype="<u8")
        places = np.minimum(np.searchsorted(self.hashes, asked), len(self.hashes) - 1)
        hits = np.flatnonzero(self.hashes[places] == asked)
        return int(hits[0]) if len(hits) else -1


def host_key(host: str) -> str:
    """A host as lists and URLs are compared: small letters, IDNA, without a last dot."""
    host = host.strip().rstrip(".").lower()
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            return host
    return host


def url_key(url: str) -> str:
    """A URL without scheme, ``www.``, fragment and last slash; its host in small letters."""
    bare = url.strip().partition("#")[0]
    if "://" in bare[:12]:
        bare = bare.partition("://")[2]
    host, slash, rest = bare.partition("/")
    key = host_key(host.rpartition("@")[2].removesuffix(":80").removesuffix(":443")).removeprefix("www.")
    return f"{key}/{rest}".rstrip("/") if slash else key


def domains_in(paths: list[str]) -> tuple[Iterator[str], Iterator[str]]:
    """(domains, URLs) of lists of domains: lists of UT1 hold both."""
    return (key for key, is_url in _entries(paths) if not is_url), (key for key, is_url in _entries(paths) if is_url)


def urls_in(paths: list[str]) -> Iterator[str]:
    for file, number, line in _lines(paths, _urls_or_text):
        if any(character.isspace() for character in line):
            raise _wrong("urls", file, number, line, "it holds a space", "write one URL a line")
        yield url_key(line)


def words_in(paths: list[str], key: str) -> Iterator[str]:
    for file, number, line in _lines(paths, _text):
        word = line.lower()
        if key != "substrings" and not word.isalnum():
            cause = "the words of a URL are what stands between signs"
            raise _wrong(key, file, number, line, cause, "write one word a line, letters and digits only")
        yield word


def _entries(paths: list[str]) -> Iterator[tuple[str, bool]]:
    for file, number, line in _lines(paths, _ut1_or_text):
        words = line.split()
        if len(words) > 1 and _is_address(words[0]):
            yield from ((host_key(name), False) for name in words[1:] if name.lower() not in _OWN)
            continue
        entry = words[0].removeprefix("||").removesuffix("^") if len(words) == 1 else ""
        entry = entry.partition("://")[2] if "://" in entry else entry
        host, _, path = entry.removeprefix("*.").partition("/")
        if not host or any(sign in host for sign in "\"'<>()[]{}|\\^`,;!$%&=?*"):
            raise _wrong("domains", file, number, line, "it is no domain", "write one domain a line, or a hosts file's")
        yield (url_key(entry), True) if path else (host_key(host).removeprefix("www."), False)


def _is_address(word: str) -> bool:
    try:
        ipaddress.ip_address(word)
    except ValueError:
        return False
    return True


def _wrong(key: str, file: str, number: int, line: str, cause: str, remedy: str) -> UserError:
    fact = f"url.{key}: {file}:{number} cannot be used"
    return UserError(Problem(fact, f"{cause}: {line[:60]!r}", remedy))


def _lines(paths: list[str], chosen: Callable[[list[str]], list[str]]) -> Iterator[Line]:
    """(file, number, line) without comments and blanks. Raises UserError where a file cannot be read."""
    for file in (file for path in paths for file in _files(path, chosen)):
        try:
            with gzip.open(file, "rb") if file.endswith(".gz") else open(file, "rb") as raw:
                for number, data in enumerate(raw, 1):
                    line = data.decode("utf-8-sig" if number == 1 else "utf-8").partition("#")[0].strip()
                    if line and not line.startswith("!"):
                        yield file, number, line
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            cause = getattr(error, "strerror", None) or str(error)
            remedy = "give UTF-8 text, one entry a line, or .gz of it"
            raise UserError(Problem(f"url: {file} cannot be read", cause, remedy)) from None


def _files(path: str, chosen: Callable[[list[str]], list[str]]) -> list[str]:
    if not os.path.isdir(path):
        return [path]
    found = [os.path.join(top, name) for top, _, names in os.walk(path) for name in names if not name.startswith(".")]
    files = sorted(chosen(found))
    if not files:
        cause = "no file there is named domains or urls, or ends in .txt, .hosts or .list"
        raise UserError(Problem(f"url: {path} holds no lists", cause, "name the files themselves"))
    return files


def _ut1_or_text(found: list[str]) -> list[str]:
    """Of UT1's folders the files ``domains`` and ``urls``; else text files."""
    return [file for file in found if _bare(file) in ("domains", "urls")] or _text(found)


def _urls_or_text(found: list[str]) -> list[str]:
    return [file for file in found if _bare(file) == "urls"] or _text(found)


def _text(found: list[str]) -> list[str]:
    return [file for file in found if file.removesuffix(".gz").endswith((".txt", ".hosts", ".list"))]


def _bare(file: str) -> str:
    return os.path.basename(file).removesuffix(".gz")


def _hash(name: str) -> bytes:
    return blake2b(name.encode("utf-8", "replace"), digest_size=8).digest()
