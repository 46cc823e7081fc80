"""The light half of ``minhash``: its settings and where its class lies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl

__all__ = ["MinhashConfig", "Normalise", "Scope", "Shingles", "lmgraft_filter"]


class Shingles(Enum):
    """What runs of ``ngram`` are taken over."""

    words = "words"
    chars = "chars"


class Normalise(Enum):
    """What is evened out before texts are compared."""

    full = "full"
    none = "none"


class Scope(Enum):
    """Among which documents duplicates are looked for."""

    corpus = "corpus"
    source = "source"
    key = "key"


@dataclass
class MinhashConfig(ComponentConfig):
    """What counts as a near-duplicate. The defaults are FineWeb's."""

    ngram: int = 5
    """Words (or characters) in a shingle. A document that has fewer is one shingle of all it has."""
    bands: int = 14
    """Groups of hashes; two documents are taken for duplicates where they agree in all rows of at least one band."""
    rows: int = 8
    """Hashes in a band. Documents of Jaccard similarity s are found with the probability 1 - (1 - s^rows)^bands."""
    shingles: Shingles = Shingles.words
    """``words``, or ``chars``: characters, with one space between words (``ngram`` around 24 then)."""
    normalise: Normalise = Normalise.full
    """``full``: lower case, no diacritics, punctuation as white space, each number a 0; ``none``: as it is. Runs of
    white space count as one either way."""
    scope: Scope = Scope.corpus
    """``corpus``: all documents are compared; ``source``: those of each source by themselves; ``key``: those with the
    same value of ``key``, as FineWeb's dumps."""
    key: str = ""
    """With ``scope: key``: the key of a row's meta, such as ``dump``. Rows without it are a group, too."""
    seed: int = 0
    """Draws the hash functions."""

    def check(self) -> Iterator[str]:
        for name, most in (("ngram", 256), ("bands", 4096), ("rows", 256)):
            if not 1 <= getattr(self, name) <= most:
                yield f"{name} is {getattr(self, name)}; it must be from 1 to {most}"
        if self.scope is Scope.key and not self.key:
            yield "key is empty; with scope=key it names the key of the rows that tells the groups apart"
        if self.scope is not Scope.key and self.key:
            yield f"key is {self.key!r}, and scope={self.scope.value} does not look at it; scope=key does"


@hookimpl
def lmgraft_filter() -> list[Component[Any]]:
    return [
        Component(
            name="minhash",
            target="lmgraft_minhash.minhash:Minhash",
            config=MinhashConfig,
            summary="Keeps the first of near-duplicate documents, corpus-wide",
        )
    ]
