"""The text that a tokenizer is learnt from and measured on: spread evenly over a corpus, whatever its order."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from lmgraft.artifacts import corpus
from lmgraft.artifacts.tokenizer import pieces
from lmgraft.errors import Problem, UserError

__all__ = ["LONGEST_WORD", "Learnt", "Row", "fraction", "learning", "rows", "sample", "source_bytes"]

RULE = (
    "Piece n of text m of the training split (texts of 65,536 characters or more are cut into pieces) is taken where "
    "blake2b('m:n', 8 bytes, little-endian) / 2**64 is below sample_bytes / all bytes. There is no seed. Of a source "
    "of which that takes nothing the first piece is taken, after all others."
)

#: UTF-8 bytes of characters of one kind (letters and digits, marks, white space) in a row that are still text. Below
#: 1 MiB, into which the source ``files`` cuts a long file: what is left of a word of 200 MB is found too.
LONGEST_WORD = 1 << 19

_RUN = re.compile(r"\w+|\s+|[^\w\s]+")


@dataclass(frozen=True, slots=True)
class Row:
    """One document of a split."""

    id: str
    source: str
    language: str
    """What its metadata say; empty where they say nothing."""
    texts: tuple[str, ...]
    """One for a plain document; every content, or prompt, chosen and rejected, otherwise."""


def rows(folder: Path, split: str, *, language: bool = False) -> Iterator[Row]:
    """The documents of a split in order, in bounded memory; metadata are read for ``language`` only."""
    columns = [*corpus.CONTENT, "id", "source", *(["meta"] if language else [])]
    for shard in corpus.shards(folder, split):
        with pq.ParquetFile(shard) as file:
            chosen = [name for name in file.schema_arrow.names if name in columns]
            for batch in file.iter_batches(batch_size=256, columns=chosen, use_threads=False):
                sources = batch.column("source").to_pylist()
                meta = batch.column("meta").to_pylist() if language else [None] * batch.num_rows
                for document, source, known in zip(corpus.from_batch(_without_meta(batch)), sources, meta, strict=True):
                    yield Row(document.id, source, _language(known), _texts(document))


def _without_meta(batch: Any) -> Any:
    return batch.drop_columns(["meta"]) if "meta" in batch.schema.names else batch


def _language(meta: str | None) -> str:
    if not meta or '"lang' not in meta:
        return ""
    found = json.loads(meta)
    language = found.get("language") or found.get("lang") if isinstance(found, dict) else None
    return language if isinstance(language, str) else ""


def _texts(document: Any) -> tuple[str, ...]:
    parts = [document.text, document.prompt, document.chosen, document.rejected]
    parts += [message.get("content") for message in document.messages or ()]
    return tuple(part for part in parts if isinstance(part, str))


def source_bytes(folder: Path, split: str) -> dict[str, int]:
    """Source -> UTF-8 bytes of its text in a split, in the order in which the sources come."""
    found: dict[str, int] = {}
    if split not in corpus.splits(folder):
        return found
    for shard in corpus.shards(folder, split):
        with pq.ParquetFile(shard) as file:
            chosen = [name for name in file.schema_arrow.names if name in (*corpus.CONTENT, "source")]
            for batch in file.iter_batches(batch_size=1024, columns=chosen, use_threads=False):
                for source, size in zip(batch.column("source").to_pylist(), corpus.sizes(batch).tolist(), strict=True):
                    found[source] = found.get(source, 0) + size
    return found


def fraction(number: int, part: int) -> float:
    """A number in [0, 1) that looks like chance, of piece ``part`` of text ``number``."""
    digest = hashlib.blake2b(f"{number}:{part}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


def sample(texts: Iterator[str], share: float) -> Iterator[str]:
    """Pieces of ``texts`` (whole documents where they are short) that hold about ``share`` of the text.

    Piece n of document m is taken where a hash of (m, n), as a fraction, is below ``share``: so the sample is spread
    evenly, whatever the order of the corpus, and the same for the same corpus. Long documents are cut, or a few books
    would make the sample much larger or smaller than asked. Where chance takes nothing, the first piece is taken.
    """
    learnt = Learnt()
    yield from learnt.take((Row("", "", "", (text,)) for text in texts), share)


@dataclass(slots=True)
class _Source:
    bytes: int = 0
    pieces: int = 0
    of_bytes: int = 0
    of_documents: int = 0


@dataclass(slots=True)
class Learnt:
    """The sample as it is drawn, and what is noted of it."""

    sources: dict[str, _Source] = field(default_factory=dict)

    def take(self, found: Iterator[Row], share: float) -> Iterator[str]:
        """The pieces to learn from, about ``share`` of the text, every source in proportion.

        Raises :class:`~lmgraft.errors.UserError` at a document with a word that is too long to be text.
        """
        first: dict[str, str] = {}
        number = -1
        for row in found:
            own = self.sources.setdefault(row.source, _Source())
            own.of_documents += 1
            for text in row.texts:
                number += 1
                own.of_bytes += len(text.encode())
                _check_words(row.id, text)
                for part, piece in enumerate(pieces(text)):
                    if share >= 1 or fraction(number, part) < share:
                        yield self._taken(own, piece)
                    elif not own.pieces:
                        first.setdefault(row.source, piece)
        for source, piece in first.items():
            if not self.sources[source].pieces:
                yield self._taken(self.sources[source], piece)

    @staticmethod
    def _taken(own: _Source, piece: str) -> str:
        own.bytes += len(piece.encode())
        own.pieces += 1
        return piece

    def told(self, wanted: int) -> dict[str, Any]:
        """For ``sample.json``."""
        return {
            "rule": RULE,
            "sample_bytes": wanted,
            "bytes": sum(source.bytes for source in self.sources.values()),
            "of_bytes": sum(source.of_bytes for source in self.sources.values()),
            "sources": {name: asdict(source) for name, source in self.sources.items()},
        }


def learning(folder: Path, share: float, learnt: Learnt) -> Iterator[str]:
    """:meth:`Learnt.take` of a corpus' training split."""
    return learnt.take(rows(folder, "train"), share)


def _check_words(document: str, text: str) -> None:
    if len(text) <= LONGEST_WORD // 4 or len(text.encode()) <= LONGEST_WORD:
        return
    longest = max((len(match[0].encode()) for match in _RUN.finditer(text)), default=0)
    if longest > LONGEST_WORD:
        cause = f"it has {longest:,} bytes without a break, and nothing beyond {LONGEST_WORD:,} is text"
        remedy = "drop such documents in the corpus stage: a filter on word length (gopher_quality), or another source"
        raise UserError(Problem(f"document {document} holds a word without an end", cause, remedy))
