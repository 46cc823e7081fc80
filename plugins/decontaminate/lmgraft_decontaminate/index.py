"""The n-grams of evaluation sets, on disk: sorted hashes, which sets have them, and a bitmap that answers most queries.

For each length that occurs: ``NNN.hashes.npy`` (uint64, ascending), ``NNN.sets.npy`` (uint16, the set of each; an
n-gram of two sets stands twice) and ``NNN.bits.npy`` (32 bits for each hash, set at its first bits), all
memory-mapped, so that worker processes share them. ``sets.json`` holds the names of the sets and what was read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lmgraft.errors import Problem, UserError

from lmgraft_decontaminate.words import Array, grams, words_of

__all__ = ["Index", "build", "strings"]

TOLD = "sets.json"
#: Texts that are hashed at once.
TEXTS = 2048


class Index:
    """What ``build`` wrote to a folder."""

    def __init__(self, folder: Path) -> None:
        told = json.loads((folder / TOLD).read_text(encoding="utf-8"))
        self.sets: list[str] = list(told["sets"])
        """Names, in the order of their numbers."""
        self.lengths: list[int] = told["lengths"]
        """Words of an n-gram, ascending."""
        self._tables = {length: _load(folder, length) for length in self.lengths}

    @staticmethod
    def there(folder: Path) -> bool:
        """Whether ``folder`` holds a whole index."""
        return (folder / TOLD).exists()

    def candidates(self, hashes: Array, length: int) -> Array:
        """Places of the hashes that the index may hold: all that it does, and a few per cent of the others."""
        bits, _, _ = self._tables[length]
        shift = np.uint64(64 - (len(bits).bit_length() + 2))
        place = hashes >> shift
        byte = bits[(place >> np.uint64(3)).astype(np.intp)]
        return np.flatnonzero((byte >> (place & np.uint64(7)).astype(np.uint8)) & np.uint8(1))

    def owners(self, hashes: Array, length: int) -> Iterator[tuple[int, int]]:
        """(place in ``hashes``, number of a set) for every set that has the n-gram."""
        _, held, sets = self._tables[length]
        first = np.searchsorted(held, hashes, side="left")
        last = np.searchsorted(held, hashes, side="right")
        for place in np.flatnonzero(last > first).tolist():
            for number in sets[first[place] : last[place]].tolist():
                yield place, number


def _load(folder: Path, length: int) -> tuple[Array, Array, Array]:
    bits, hashes, sets = (
        np.load(folder / f"{length:03d}.{name}.npy", mmap_mode="r") for name in ("bits", "hashes", "sets")
    )
    return bits, hashes, sets


def build(
    inputs: Mapping[str, Iterable[Mapping[str, Any]]],
    columns: Mapping[str, Iterable[str]],
    ngram: int,
    min_words: int,
    folder: Path,
) -> None:
    """Reads the rows of every set and writes the index.

    :raises UserError: a set lacks a column that is named, or has no text that is long enough to be looked for.
    """
    found: dict[int, list[Array]] = {}
    owners: dict[int, list[Array]] = {}
    told: dict[str, dict[str, int]] = {}
    for number, (name, rows) in enumerate(inputs.items()):
        wanted = list(columns.get(name, ()))
        counter = _Counter()
        for batch in _batched(_texts(name, rows, wanted), counter):
            for length, hashes in _hashed(batch, ngram, min_words, counter):
                found.setdefault(length, []).append(hashes)
                owners.setdefault(length, []).append(np.full(len(hashes), number, np.uint16))
        told[name] = counter.told()
        if not counter.matched:
            raise UserError(_nothing(name, counter.rows, ngram, min_words))
    for length in found:
        _write(folder, length, np.concatenate(found[length]), np.concatenate(owners[length]))
    text = json.dumps({"sets": told, "lengths": sorted(found), "ngram": ngram}, indent=1)
    (folder / TOLD).write_text(text, encoding="utf-8")


def strings(value: Any) -> Iterator[str]:
    """All text in a value, whatever lists and mappings it lies in."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from strings(inner)


class _Counter:
    """What was read of a set. A row of which no text is long enough is never found: it counts as ``rows_ignored``."""

    def __init__(self) -> None:
        self.rows = self.texts = self.whole = self.short = 0
        self.matched: set[int] = set()

    def told(self) -> dict[str, int]:
        return {
            "rows": self.rows,
            "rows_ignored": self.rows - len(self.matched),
            "texts": self.texts,
            "texts_whole": self.whole,
            "texts_ignored": self.short,
        }


def _texts(name: str, rows: Iterable[Mapping[str, Any]], wanted: list[str]) -> Iterator[list[str]]:
    """The texts of each row; refuses a named column that no row has."""
    unseen, seen = set(wanted), set[str]()
    for row in rows:
        unseen -= row.keys()
        seen |= {key for key in row if key is not None} if len(seen) < 100 else set()
        yield list(strings([row.get(key) for key in wanted] if wanted else dict(row)))
    if unseen:
        missing = sorted(unseen)[0]
        cause = f"its rows have {', '.join(sorted(seen)) or 'nothing'}"
        raise UserError(Problem(f"columns.{name}: no row has the column {missing!r}", cause, f"correct columns.{name}"))


def _batched(rows: Iterable[list[str]], counter: _Counter) -> Iterator[list[tuple[int, str]]]:
    batch: list[tuple[int, str]] = []
    for texts in rows:
        batch.extend((counter.rows, text) for text in texts)
        counter.rows += 1
        if len(batch) >= TEXTS:
            yield batch
            batch = []
    if batch:
        yield batch


def _hashed(batch: list[tuple[int, str]], ngram: int, min_words: int, counter: _Counter) -> Iterator[tuple[int, Array]]:
    """(length, hashes) of a batch's texts: all n-grams of the long ones, the whole of the others."""
    words = words_of([text for _, text in batch])
    counts = np.diff(words.firsts)
    owner = np.array([row for row, _ in batch])
    counter.texts += len(batch)
    counter.short += int((counts < min(ngram, min_words)).sum())
    for length in range(min(ngram, min_words), ngram):
        texts = np.flatnonzero(counts == length)
        if len(texts):
            counter.whole += len(texts)
            counter.matched.update(owner[texts].tolist())
            yield length, grams(words.hashes, length)[words.firsts[texts]]
    long = np.flatnonzero(counts >= ngram)
    if len(long):
        counter.matched.update(owner[long].tolist())
        hashes = grams(words.hashes, ngram)
        at = np.arange(len(hashes))
        yield ngram, hashes[words.texts(at) == words.texts(at + ngram - 1)]


def _write(folder: Path, length: int, hashes: Array, sets: Array) -> None:
    order = np.lexsort((sets, hashes))
    hashes, sets = hashes[order], sets[order]
    new = np.ones(len(hashes), bool)
    new[1:] = (hashes[1:] != hashes[:-1]) | (sets[1:] != sets[:-1])
    hashes, sets = hashes[new], sets[new]
    size = max(10, (len(hashes) - 1).bit_length() + 5)
    bits = np.zeros(1 << size, bool)
    bits[(hashes >> np.uint64(64 - size)).astype(np.intp)] = True
    for name, column in (("hashes", hashes), ("sets", sets), ("bits", np.packbits(bits, bitorder="little"))):
        np.save(folder / f"{length:03d}.{name}.npy", column)


def _nothing(name: str, rows: int, ngram: int, min_words: int) -> Problem:
    least = min(ngram, min_words)
    fact = f"the evaluation set {name!r} has no text of {least} words or more"
    if not rows:
        return Problem(f"the evaluation set {name!r} has no rows", "its file is empty", f"check sets.{name}")
    return Problem(fact, f"its {rows} rows are shorter than min_words", f"check columns.{name}, or lower min_words")
