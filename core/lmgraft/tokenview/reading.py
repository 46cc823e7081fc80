"""The text to look at: a file, standard input, or what was typed."""

from __future__ import annotations

import codecs
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lmgraft.errors import Problem, UserError

if TYPE_CHECKING:
    from lmgraft.tokenview.view import Token

__all__ = ["COUNTED", "Beginning", "Text", "read"]

#: Bytes of a text that are read, counted and compared.
COUNTED = 16 << 20

STDIN = "standard input"

#: How files begin that are no UTF-8, though they may hold text.
UTF16, GZIP = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE), b"\x1f\x8b"

#: A word that is meant as a file: it has a folder, or an ending of text files.
_FILE = re.compile(
    r"[^\s<>|*?]*[/\\][^\s<>|*?]*|\S+\.(txt|md|rst|py|js|c|h|html?|xml|csv|tsv|jsonl?|ya?ml|toml|log|tex)"
)


@dataclass(frozen=True, slots=True)
class Beginning:
    """What is shown of a text."""

    window: str
    """What is cut: somewhat more than is shown, so that the last token shown is the one of the whole text."""
    size: int
    """UTF-8 bytes of the part that is shown."""

    def shown(self, cuts: Sequence[Sequence[Token]]) -> tuple[bytes, list[list[Token]]]:
        """The UTF-8 that is shown, up to the end of the last token that begins in it, and the tokens of it."""
        end = max([self.size, *(token.stop for cut in cuts for token in cut if token.start < self.size)])
        return self.window.encode()[:end], [[token for token in cut if token.start < end] for cut in cuts]


@dataclass(frozen=True, slots=True)
class Text:
    """A text, or its first :data:`COUNTED` bytes."""

    name: str
    text: str
    size: int | None
    """Bytes in all; None where it is not known, as of standard input that goes on."""
    counted: int
    """Bytes of :attr:`text`."""

    def beginning(self, limit: int) -> Beginning:
        """The first ``limit`` characters; 0 for all."""
        if not limit or limit >= len(self.text):
            return Beginning(self.text, self.counted)
        return Beginning(self.text[: 2 * limit + 1024], len(self.text[:limit].encode()))

    def notes(self, shown: int) -> Iterator[str]:
        """What is left out, in words."""
        if shown < self.counted:
            yield f"Shown are the first {shown:,} of {self.counted:,} bytes; --limit 0 shows all."
        if self.size != self.counted:
            of = f"{self.size:,} bytes" if self.size is not None else "a longer text"
            yield f"Read and counted are the first {self.counted:,} bytes of {of}."


def read(given: str) -> Text:
    """The file ``given``, standard input for ``-``, else ``given`` itself.

    Raises :class:`~lmgraft.errors.UserError` for a name of a file that is not there, for folders, and for what is not
    UTF-8.
    """
    if given == "-":
        return _read(STDIN, sys.stdin.buffer, None)
    try:
        path = Path(given).expanduser()
        found = bool(given) and path.exists()
    except (OSError, ValueError, RuntimeError):  # too long for a name, a zero byte, an unknown user's home
        found = False
    if found and path.is_dir():
        cause = "a text is looked at, or a file of it"
        raise UserError(Problem(f"{given} is a folder", cause, "name one of its files"))
    if found:
        with path.open("rb") as file:
            return _read(str(path), file, path.stat().st_size if path.is_file() else None)
    if _FILE.fullmatch(given):
        remedy = f"check the name; to look at the words themselves: printf %s {shlex.quote(given)} | lmgraft tokens -"
        raise UserError(Problem(f"{given} is not there", "it reads like the name of a file", remedy))
    try:
        size = len(given.encode())
    except UnicodeEncodeError as error:
        code = f"U+{ord(given[error.start]):04X}"
        cause = f"character {error.start + 1} is a lone surrogate ({code}): half a character, or no UTF-8"
        remedy = "type it in UTF-8, or put it into a file in UTF-8"
        raise UserError(Problem("the text is no valid Unicode", cause, remedy)) from error
    return Text("the text", given, size, size)


def _read(name: str, file: BinaryIO, size: int | None) -> Text:
    data = file.read(COUNTED)
    more = bool(file.read(1))
    if b"\0" in data[: 1 << 16] or data.startswith((GZIP, *UTF16)):
        raise UserError(_binary(name, data))
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if not more or error.start < len(data) - 3:
            cause = f"byte {error.start:,} (0x{data[error.start]:02X}): {error.reason}"
            remedy = f"if it is Latin-1: iconv -f LATIN1 -t UTF-8 {_typed(name)} | lmgraft tokens -"
            raise UserError(Problem(f"{name} is not UTF-8", cause, remedy)) from error
        text = data[: error.start].decode()  # a character that the bound cuts
    counted = len(text.encode())
    return Text(name, text, size if more else counted, counted)


def _binary(name: str, data: bytes) -> Problem:
    """What begins as UTF-16 or as gzip does is called so."""
    if data.startswith(UTF16):
        remedy = f"iconv -f UTF-16 -t UTF-8 {_typed(name)} | lmgraft tokens -"
        return Problem(f"{name} is not UTF-8", "it begins with the mark of UTF-16", remedy)
    if data.startswith(GZIP):
        remedy = f"gunzip -c {_typed(name)} | lmgraft tokens -"
        return Problem(f"{name} is compressed", "it begins as gzip's files do", remedy)
    cause = f"byte {data.index(0):,} is zero, which text does not hold"
    return Problem(f"{name} is a binary file", cause, "name a file of text in UTF-8")


def _typed(name: str) -> str:
    return "FILE" if name == STDIN else shlex.quote(name)
