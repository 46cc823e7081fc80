"""The sample on disk, so that it can be read twice: its characters are counted before anything is learnt from it.

The trainers of the ``tokenizers`` library can limit the alphabet by themselves, and then leave it to the order of a
hash table which of two equally frequent characters is kept. Counted here, the choice is the same in every process.
"""

from __future__ import annotations

import struct
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from types import TracebackType

__all__ = ["Sample", "covering", "most_frequent"]

_LENGTH = struct.Struct("<Q")


class Sample:
    """Texts in a file of the system's temporary folder that has no name; a context manager, which removes it."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.characters: Counter[str] = Counter()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # it is closed by __exit__
        try:
            for text in texts:
                data = text.encode()
                self._file.write(_LENGTH.pack(len(data)) + data)
                self.characters.update(text)
        except BaseException:
            self._file.close()
            raise

    def __iter__(self) -> Iterator[str]:
        self._file.seek(0)
        while head := self._file.read(_LENGTH.size):
            yield self._file.read(_LENGTH.unpack(head)[0]).decode()

    def __enter__(self) -> Sample:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def most_frequent(characters: Counter[str]) -> list[str]:
    """Characters by falling count; equal ones by their code."""
    return sorted(characters, key=lambda character: (-characters[character], character))


def covering(characters: Counter[str], share: float) -> list[str]:
    """The most frequent characters that make up ``share`` of the text; at least one."""
    found: list[str] = []
    wanted, seen = share * characters.total(), 0
    for character in most_frequent(characters):
        if found and seen >= wanted:
            break
        found.append(character)
        seen += characters[character]
    return found
