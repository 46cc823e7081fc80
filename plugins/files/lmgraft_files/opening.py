"""Opening files, compressed or not, as plain byte streams whose faults are told in the user's terms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from lmgraft.errors import Problem
from lmgraft.seams.data_source import Damaged, Unreadable
from lmgraft.unpacking import Corrupt, ZipBomb, unpacked

from lmgraft_files.formats import compression

__all__ = ["BOM", "Lines", "Place", "not_utf8", "opened"]

BOM = b"\xef\xbb\xbf"
CHUNK = 1 << 17
#: Where the number of a line is looked up, nothing has to be guarded again.
ANY_EXPANSION = 1 << 40


@contextmanager
def opened(path: str, expansion: int) -> Iterator[BinaryIO]:
    """The (decompressed) bytes of a file. Raises Unreadable where it cannot be read, its archive is corrupt, or it
    expands by more than ``expansion``."""
    try:
        kind = compression(path)
        with unpacked(path, kind, expansion) if kind else open(path, "rb") as stream:
            yield cast("BinaryIO", stream)
    except Corrupt as error:
        problem = Problem(
            f"files: {path} is corrupt or cut short",
            f"decompressing it failed: {error}",
            "fetch or make the file again; `gzip -t`, `zstd -t`, `bzip2 -t` or `xz -t` tells whether it is whole",
        )
        raise Unreadable("truncated" if error.truncated else "corrupt", problem) from None
    except ZipBomb as error:
        problem = Problem(
            f"files: {path} expands like a zip bomb",
            f"{error.read:,} bytes of it gave {error.gave:,}, more than files.expansion={expansion} times as many",
            "take the file out; if it really holds that much text, set a larger files.expansion",
        )
        raise Unreadable("zip_bomb", problem) from None
    except OSError as error:
        problem = Problem(
            f"files: {path} cannot be read", error.strerror or str(error), "check that it exists and who may read it"
        )
        raise Unreadable("unreadable", problem) from None


class Place:
    """Counts lines from where reading began; the lines before that are counted once, when a message needs them."""

    def __init__(self, path: str, start: int = 0) -> None:
        self.path, self._start = path, start
        self._before: int | None = None if start else 0

    def where(self, line: int) -> str:
        """The file and line; ``line`` counts line ends since the start."""
        if self._before is None:
            self._before = self._count()
        return f"{self.path}:{self._before + line + 1}"

    def _count(self) -> int:
        lines, left = 0, self._start
        with opened(self.path, ANY_EXPANSION) as stream:
            while left > 0 and (chunk := stream.read(min(left, CHUNK))):
                lines += chunk.count(b"\n")
                left -= len(chunk)
        return lines


class Lines:
    """Lines of a stream, ended by ``\\n`` alone; memory holds at most ``limit`` bytes of one."""

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        self._stream, self._limit = stream, limit
        self._held = b""

    def next(self) -> bytes | None:
        """The next line with its end, b"" at the end of the stream; None for one above the limit, see :meth:`skip`."""
        line = self._stream.readline(self._limit + 1)
        if len(line) <= self._limit:
            return line
        self._held = line
        return None

    def skip(self) -> tuple[int, int]:
        """Reads past the rest of a line (one that was too long: all of it): (its bytes, the double quotes in them)."""
        chunk, self._held = self._held, b""
        size, quotes = len(chunk), chunk.count(b'"')
        while not chunk.endswith(b"\n") and (chunk := self._stream.readline(CHUNK)):
            size += len(chunk)
            quotes += chunk.count(b'"')
        return size, quotes


def not_utf8(where: str, offset: int, byte: int, size: int = 0) -> Damaged:
    """What stands in the place of text with a byte that UTF-8 does not allow."""
    # A byte order mark of UTF-16 is what Windows editors leave; everything else is most often Latin-1.
    guess = "utf-16" if offset == 0 and byte in (0xFE, 0xFF) else "latin1"
    problem = Problem(
        f"files: {where} is not UTF-8",
        f"the byte 0x{byte:02x} at offset {offset} does not belong there",
        f"convert the file, as in: iconv -f {guess} -t utf-8 OLD > NEW",
    )
    return Damaged("bad_utf8", problem, size)
