"""The libraries that encode: Hugging Face's ``tokenizers``, which is the reference, and gigatoken.

gigatoken (https://github.com/marcelroed/gigatoken, 0.10) reads a ``tokenizer.json`` and keeps the ids of every word it
has met, which is most of its speed. What follows from that:

- It knows no way to take a special token that is written out as text, so it is given the file without them.
- What it keeps grows without a bound: with every thread's own, and a new one once the process has grown too much.
- Its pool of threads does not survive a fork. It is never used: our threads call it, each an instance of its own (one
  instance would let them in one after the other).
- It knows letters of a newer Unicode (:mod:`lmgraft.encoding.newer`): documents that hold one go to the reference.
- A panic of its code is an exception that ``except Exception`` does not see. Here it becomes :class:`Unusable`.
"""

from __future__ import annotations

import json
import os
import queue
import threading
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lmgraft.artifacts import tokenizer as tokenizers
from lmgraft.artifacts.tokenizer import SavedTokenizer
from lmgraft.encoding.batches import TextBatch
from lmgraft.encoding.newer import holding
from lmgraft.errors import Problem, UserError
from lmgraft.seams.tokenizer import TextTokenizer

__all__ = ["Engine", "Gigatoken", "Ids", "Reference", "Unusable"]

#: How much the process may grow, over what it was at the start, before what gigatoken remembers is thrown away.
GROWTH_BYTES = 512 << 20

#: Text that an instance must have encoded first: making one takes as long as encoding some 20 MB.
RENEW_BYTES = 64 << 20

#: Where a process cannot look at its own size, an instance is renewed after this much text.
BLIND_BYTES = 512 << 20

Ids = tuple[NDArray[Any], NDArray[np.int64]]
"""Ids of all documents (or pieces) one after the other, and the (n + 1,) offsets at which each begins."""


class Unusable(Exception):
    """gigatoken cannot encode with this tokenizer, or broke down while it did."""


class Engine(Protocol):
    """Turns a batch of text into ids; called from several threads at once."""

    name: str
    """Of the library."""
    batch_bytes: int
    """Text that it is given at a time: under a second's work, so that a signal is heard."""

    def encode(self, batch: TextBatch) -> Ids: ...


class Reference:
    """The tokenizer as every other stage uses it."""

    name = "tokenizers"
    batch_bytes = 1 << 20

    def __init__(self, saved: TextTokenizer, what: str = "the tokenizer") -> None:
        self._saved = saved
        self._what = what

    def encode(self, batch: TextBatch) -> Ids:
        return self.encode_texts(batch.strings())

    def encode_texts(self, texts: list[str]) -> Ids:
        """Ids of strings; a :class:`UserError` where one is outside of the tokenizer's own vocabulary."""
        arrays = tokenizers.encode_arrays(self._saved, texts)
        offsets = np.cumsum([0, *map(len, arrays)]).astype(np.int64)
        flat: NDArray[Any] = np.concatenate(arrays) if arrays else np.zeros(0, np.int32)
        if flat.size and not 0 <= int(flat.min()) <= int(flat.max()) < self._saved.vocab_size:
            wrong = int(flat.max() if flat.max() >= self._saved.vocab_size else flat.min())
            fact = f"{self._what} gives the id {wrong}"
            cause = f"its vocabulary has {self._saved.vocab_size} tokens, ids 0 to {self._saved.vocab_size - 1}"
            raise UserError(Problem(fact, cause, "take another tokenizer, or tell the author of the part that made it"))
        return flat, offsets


class Gigatoken:
    """gigatoken, one instance a thread.

    :raises Unusable: it is not installed, or it cannot read this tokenizer.
    """

    name = "gigatoken"
    batch_bytes = 4 << 20

    def __init__(self, saved: SavedTokenizer) -> None:
        self._vocab_size = saved.vocab_size
        self._reference = Reference(saved)
        self._text = _without_special(saved.content)
        self._idle: queue.SimpleQueue[_Instance] = queue.SimpleQueue()
        self._idle.put(_Instance(self._text))
        self._limit = resident() + GROWTH_BYTES
        self._renewing = threading.Lock()

    def encode(self, batch: TextBatch) -> Ids:
        try:
            instance = self._idle.get_nowait()
        except queue.Empty:
            instance = _Instance(self._text)
        if instance.is_full(self._limit) and self._renewing.acquire(blocking=False):
            try:
                del instance
                instance = _Instance(self._text)
            finally:
                self._renewing.release()
        try:
            flat, offsets = instance.encode(batch)
        finally:
            self._idle.put(instance)
        if flat.size and int(flat.max()) >= self._vocab_size:
            raise Unusable(f"it gave the id {int(flat.max())}; the vocabulary has {self._vocab_size} tokens")
        newer = holding(batch)
        return self._corrected(batch, (flat, offsets), newer) if newer.size else (flat, offsets)

    def _corrected(self, batch: TextBatch, ids: Ids, rows: NDArray[np.int64]) -> Ids:
        """``ids`` with those of the documents ``rows`` by the reference."""
        flat, offsets = ids
        texts = [batch.data[start:stop].tobytes().decode() for start, stop in batch.spans(rows)]
        own, borders = self._reference.encode_texts(texts)
        parts, lengths, done = [], np.diff(offsets), 0
        for number, row in enumerate(rows.tolist()):
            found = own[borders[number] : borders[number + 1]]
            parts += [flat[done : offsets[row]], found]
            lengths[row], done = len(found), int(offsets[row + 1])
        return np.concatenate([*parts, flat[done:]]), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


class _Instance:
    def __init__(self, text: str) -> None:
        try:
            awkward, gigatoken = import_module("awkward"), import_module("gigatoken")
        except ImportError as error:
            raise Unusable("it is not installed (pip install 'lmgraft[fast]')") from error
        self._awkward = awkward
        self._encoded = 0
        with _Guarded("it cannot read this tokenizer"):
            self._tokenizer = gigatoken.Tokenizer.from_json(text)

    def is_full(self, limit: int) -> bool:
        if self._encoded < RENEW_BYTES:
            return False
        held = resident()
        return held > limit if held else self._encoded > BLIND_BYTES

    def encode(self, batch: TextBatch) -> Ids:
        contents, index = self._awkward.contents, self._awkward.index
        text = contents.NumpyArray(batch.data, parameters={"__array__": "char"})
        rows = contents.ListOffsetArray(index.Index64(batch.offsets), text, parameters={"__array__": "string"})
        with _Guarded("it broke down"):
            found = self._tokenizer.encode_batch(self._awkward.Array(rows), parallel=False).layout
        self._encoded += batch.bytes
        flat, offsets = np.asarray(found.content.data), np.asarray(found.offsets.data)
        return flat[offsets[0] : offsets[-1]], offsets - offsets[0]


class _Guarded:
    """Turns whatever the library raises, panics too, into :class:`Unusable`."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, (KeyboardInterrupt, SystemExit, MemoryError)):
            return
        raise Unusable(f"{self._what}: {' '.join(str(error).split()) or type(error).__name__}") from error


def _without_special(content: dict[str, Any]) -> str:
    """``tokenizer.json`` in which nothing is recognised in text but added tokens that are text themselves."""
    added = [token for token in content.get("added_tokens") or [] if not token.get("special")]
    unused = {"post_processor": None, "truncation": None, "padding": None}
    return json.dumps({**content, **unused, "added_tokens": added}, ensure_ascii=False)


def resident() -> int:
    """Bytes of memory that the process holds; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
