"""Packed tokens: Megatron's indexed dataset (``.bin`` / ``.idx``), written and read without Megatron.

``NAME.bin`` is one document after the other, each closed by the end token, as little-endian uint16 or int32.
``NAME.idx`` is: the magic ``MMIDIDX\\0\\0``; uint64 version (1); uint8 type code; uint64 number of sequences S; uint64
number of document boundaries D; S int32 lengths in tokens; S int64 byte offsets; D int64 sequence numbers at which
documents begin, the last one S. Here a document is one sequence, so D = S + 1.

Source: megatron-core 0.16.1, ``megatron/core/datasets/indexed_dataset.py`` (``DType``, ``_IndexWriter``,
``_IndexReader``).

Both sides work in bounded memory: the writer spools the lengths, the reader maps the files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmgraft.artifacts import examples
from lmgraft.artifacts._token_writer import BLOCK, CODES, HEADER, MAGIC, VERSION, TokenWriter, named
from lmgraft.errors import Problem, UserError

__all__ = ["MANIFEST", "SplitCount", "TokenFile", "TokenWriter", "TokensInfo", "info", "token_dtype", "verify"]

MANIFEST = "tokens.json"
READABLE: dict[int, np.dtype[Any]] = {
    **CODES,
    1: np.dtype("u1"),
    2: np.dtype("i1"),
    3: np.dtype("<i2"),
    5: np.dtype("<i8"),
}

#: Megatron's own bound for uint16 (``DType.optimal_dtype``).
UINT16_BELOW = 65_500


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """uint16 below 65,500 ids, else int32."""
    return CODES[8] if vocab_size < UINT16_BELOW else CODES[4]


class TokenFile:
    """Reads ``prefix.bin`` and ``prefix.idx``: documents by number, and windows over the stream of all tokens.

    Any file of Megatron's that holds text opens; the files are mapped, so memory does not grow with them. Raises
    :class:`~lmgraft.errors.UserError` where a file is missing, of another kind, or cut short.
    """

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        index, data = named(prefix, ".idx"), named(prefix, ".bin")
        for path in (index, data):
            if not path.is_file():
                remedy = "run the stage that makes it again, or name the folder that holds it"
                raise UserError(Problem(f"{path} is missing", "packed tokens are a .bin and an .idx file", remedy))
        self.dtype, sequences, boundaries = _read_header(index)
        sizes = (4 * sequences, 8 * sequences, 8 * boundaries)
        if index.stat().st_size < HEADER.size + sum(sizes) or boundaries < 1:
            raise _broken(index, f"it names {sequences} sequences and is too short for them")
        offset = HEADER.size
        self._lengths = _map(index, "<i4", offset, sequences)
        self._offsets = _map(index, "<i8", offset + sizes[0], sequences)
        self._documents = _map(index, "<i8", offset + sizes[0] + sizes[1], boundaries)
        self.documents = boundaries - 1
        end = int(self._offsets[-1]) + int(self._lengths[-1]) * self.dtype.itemsize if sequences else 0
        if data.stat().st_size < end:
            raise _broken(data, f"its index names {end} bytes and it holds {data.stat().st_size}")
        self.tokens = end // self.dtype.itemsize
        self._tokens = _map(data, self.dtype, 0, self.tokens)

    def __len__(self) -> int:
        return self.documents

    def __getitem__(self, document: int) -> NDArray[Any]:
        """The tokens of a document with its end token, in the file's dtype."""
        if not 0 <= document < self.documents:
            raise IndexError(f"{self.prefix}: document {document} of {self.documents}")
        start, stop = self.starts(np.array([document, document + 1]))
        return np.array(self._tokens[start:stop])

    def window(self, start: int, length: int) -> NDArray[Any]:
        """``length`` tokens of the stream from ``start``; fewer where the stream ends."""
        return np.array(self._tokens[start : start + length])

    def take(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """The tokens at these positions of the stream, in the file's dtype and the positions' shape; a position outside
        takes the nearest token. Other threads go on while pages are read from disk, which a slice would keep them
        from."""
        return np.take(self._tokens, positions, mode="clip")

    def starts(self, documents: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where these documents (0 .. ``documents``) begin in the stream; the last one is where the stream ends."""
        sequences = self._documents[documents]
        result = np.full(sequences.shape, self.tokens, dtype=np.int64)
        inside = sequences < len(self._offsets)
        result[inside] = self._offsets[sequences[inside]] // self.dtype.itemsize
        return result

    def first_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """For each position of the stream the first document that begins there or later; (n,) int64.

        A bisection of our own: the index lies unaligned in the file, and ``np.searchsorted`` would copy all of it.
        """
        low = np.zeros(positions.shape, dtype=np.int64)
        high = np.full(positions.shape, self.documents, dtype=np.int64)
        for _ in range(max(1, self.documents).bit_length()):
            middle = (low + high) // 2
            before = (self.starts(middle) < positions) & (low < high)
            low = np.where(before, middle + 1, low)
            high = np.where(before, high, middle)
        return low

    def boundaries(self, start: int, stop: int) -> NDArray[np.int64]:
        """The positions in ``[start, stop)`` at which documents begin, ascending."""
        first, last = self.first_at(np.array([start, stop], dtype=np.int64))
        return self.starts(np.arange(first, last))


def _map(path: Path, dtype: Any, offset: int, count: int) -> NDArray[Any]:
    # An empty file cannot be mapped.
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=(count,)) if count else np.zeros(0, dtype=dtype)


def _read_header(index: Path) -> tuple[np.dtype[Any], int, int]:
    with index.open("rb") as file:
        data = file.read(HEADER.size)
    if len(data) < HEADER.size or data[: len(MAGIC)] != MAGIC:
        raise _broken(index, "it does not begin as an index of Megatron's does")
    _, version, code, sequences, boundaries = HEADER.unpack(data)
    if version != VERSION or code not in READABLE:
        raise _broken(index, f"it is of version {version} with type code {code}; integers of version 1 are read")
    return READABLE[code], sequences, boundaries


def _broken(path: Path, cause: str) -> UserError:
    return UserError(Problem(f"{path} cannot be read", cause, "make the file again"))


@dataclass(frozen=True, slots=True)
class SplitCount:
    """What a split holds."""

    documents: int
    tokens: int
    """Tokens in the file, an end token a document included."""
    bytes: int
    """UTF-8 bytes of the text."""
    characters: int


#: In place of an id.
_UNTOLD = -1
_NUMBERS = ("vocab_size", "end_id", "pad_id", "first_id")


@dataclass(frozen=True, slots=True)
class TokensInfo:
    """``tokens.json``: what a folder of packed tokens holds."""

    vocab_size: int
    dtype: str
    fingerprint: str
    """Of the tokenizer that encoded it."""
    end_id: int
    pad_id: int
    splits: dict[str, SplitCount]
    first_id: int = _UNTOLD
    """What a document begins with where it is read: no token of the file. Where none is told it is the end token."""

    def __post_init__(self) -> None:
        if self.first_id == _UNTOLD:
            object.__setattr__(self, "first_id", self.end_id)

    def write(self, folder: Path) -> None:
        """An id that is the end token's is left out, as in folders of older versions."""
        content = asdict(self)
        if self.first_id == self.end_id:
            del content["first_id"]
        text = json.dumps(content, indent=2) + "\n"
        (folder / MANIFEST).write_text(text, encoding="utf-8")


def info(folder: Path) -> TokensInfo:
    """Reads ``tokens.json``; raises :class:`~lmgraft.errors.UserError` where it is missing or broken."""
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        splits = {name: SplitCount(**count) for name, count in content.pop("splits").items()}
        wrong = [key for key in _NUMBERS if type(content.get(key, 0)) is not int]
        if wrong:
            raise ValueError(f"{wrong[0]} is {content[wrong[0]]!r}, no whole number")
        return TokensInfo(**content, splits=splits)
    except FileNotFoundError as error:
        remedy = "name the artifact of a stage of kind tokens"
        raise UserError(Problem(f"{path} is missing", "a folder of packed tokens holds it", remedy)) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _broken(path, f"it does not list what such a folder holds ({error})") from error


def verify(folder: Path) -> list[str]:
    """Reads all tokens and says what is wrong: counts, ids beyond the vocabulary, documents without an end; of encoded
    rows what their own module knows of."""
    if examples.is_rows(folder):
        return [f"{problem.fact}: {problem.cause}" for problem in examples.verify(folder)]
    try:
        held = info(folder)
        files = {split: TokenFile(folder / split) for split in held.splits}
    except UserError as error:
        return [f"{problem.fact}: {problem.cause}" for problem in error.problems]
    return [text for split, file in files.items() for text in _wrong(split, file, held)]


def _wrong(split: str, file: TokenFile, held: TokensInfo) -> Iterator[str]:
    count = held.splits[split]
    for name in ("documents", "tokens"):
        if getattr(file, name) != getattr(count, name):
            yield f"{split} holds {getattr(file, name)} {name}; {MANIFEST} says {getattr(count, name)}"
    for start in range(0, file.tokens, BLOCK):
        block = file.window(start, BLOCK)
        if int(block.min()) < 0 or int(block.max()) >= held.vocab_size:
            yield f"{split}: an id between tokens {start} and {start + len(block)} is not in the vocabulary"
            return
    for first in range(0, file.documents, BLOCK):
        ends = file.starts(np.arange(first, min(first + BLOCK, file.documents)) + 1) - 1
        if np.any(file._tokens[ends] != held.end_id):
            yield f"{split}: a document from number {first} on does not end with the end token"
            return
