"""The sieve: every titled document is sketched, sorted by (title, rank, position), and all beyond `keep` go."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod

import pyarrow as pa
from lmgraft.seams.filter import Verdict

from first_of_title.settings import Preference


class Ranking(ABC):
    """A number for each document of a title: the lower, the sooner it stays."""

    def __init__(self, settings):
        self.settings = settings

    @abstractmethod
    def rank(self, document) -> float: ...


class FirstRanking(Ranking):
    def rank(self, document) -> float:
        return 0.0


class LongestRanking(Ranking):
    def rank(self, document) -> float:
        return -float(document.length())


class HighestRanking(Ranking):
    def rank(self, document) -> float:
        try:
            number = float(document.meta[self.settings.score])
        except (KeyError, TypeError, ValueError):
            return math.inf
        return math.inf if math.isnan(number) else -number


RANKINGS = {
    Preference.FIRST: FirstRanking,
    Preference.LONGEST: LongestRanking,
    Preference.HIGHEST: HighestRanking,
}


class TitleReader:
    """A document's title as 16 bytes, or None."""

    def __init__(self, settings):
        self.settings = settings

    def digest(self, document) -> bytes | None:
        title = document.meta.get(self.settings.key)
        if title is None:
            return None
        title = str(title)
        if self.settings.fold:
            title = title.strip().casefold()
        return hashlib.blake2b(title.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class TitleCounter:
    """Counts along titles in sorted order; holds one title at a time."""

    def __init__(self):
        self.title = None
        self.seen = 0

    def count(self, title: bytes) -> int:
        if title != self.title:
            self.title, self.seen = title, 0
        self.seen += 1
        return self.seen


class TitleSieve:
    SCHEMA = pa.schema([("title", pa.binary(16)), ("rank", pa.float64()), ("position", pa.int64())])

    def __init__(self, settings):
        self.settings = settings
        self.reader = TitleReader(settings)
        self.ranking = RANKINGS[settings.prefer](settings)

    def schema(self):
        return self.SCHEMA

    def order(self):
        return ["title", "rank", "position"]

    def sketch(self, batch, positions):
        rows = []
        for document, position in zip(batch, positions, strict=True):
            title = self.reader.digest(document)
            if title is not None:
                rows.append({"title": title, "rank": self.ranking.rank(document), "position": position})
        return pa.RecordBatch.from_pylist(rows, schema=self.SCHEMA)

    def resolve(self, spool, workdir, memory_mb):
        counter = TitleCounter()
        for batch in spool.batches():
            titles, positions = batch.column("title").to_pylist(), batch.column("position").to_pylist()
            for title, position in zip(titles, positions, strict=True):
                if counter.count(title) > self.settings.keep:
                    yield position, Verdict.drop("title_again")
