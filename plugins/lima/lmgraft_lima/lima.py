"""Filter ``lima``: a small selection of good and diverse chats (Zhou et al. 2023, "LIMA: Less Is More for Alignment",
arXiv:2305.11206, section 2).

A sketch carries the verdict of the rules that judge one chat, and what the rest needs: digests of prompt and chat, the
score, where it comes from, and its topic or the words of its prompt. Everything after that is decided by these and the
seed, never by a position, so neither order nor workers nor batches change which texts are kept.

Where the paper sampled topics by hand (Stack Exchange's sites), a key of the rows may name them; otherwise prompts are
grouped by their words. Each group gets a share of its size to the power of 1/3, the paper's temperature, and gives its
chats of the highest score.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from lmgraft.errors import Problem, UserError
from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import SortedSpool, Verdict

from lmgraft_lima.plugin import LimaConfig
from lmgraft_lima.rules import broken_rule, rating
from lmgraft_lima.topics import WIDTH, grouped, shares, words

__all__ = ["Lima"]

DUPLICATE, OVER, OTHER = (Verdict.drop(reason) for reason in ("duplicate_prompt", "over_quota", "not_chosen"))
#: Memory of a candidate: its words, digests and what Python adds.
CANDIDATE_BYTES = 2 * WIDTH + 512
#: Rows of the spool that are Python objects at one time.
CHUNK = 4096
#: Of files in ranges: where the range begins, and a document's number. Ranges of a file are one source.
PLACE = re.compile(r"(?:@\d+)?:\d+\Z")


@dataclass(slots=True)
class _Candidates:
    """Chats that broke no rule, one a prompt, in the order of their prompts' digests."""

    positions: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    topics: list[str] = field(default_factory=list)
    words: list[bytes] = field(default_factory=list)

    def add(self, row: _Row) -> None:
        for name, value in zip(self.__slots__, row, strict=True):
            getattr(self, name).append(value)

    def ranked(self, index: int) -> tuple[float, int]:
        """Ascending: the highest score first, then by content."""
        return -self.scores[index], self.keys[index]


_Row = tuple[int, int, float, str, str, bytes]
_COLUMNS = ("position", "key", "score", "source", "topic", "words")


class Lima:
    """Corpus-wise. Reasons beside those of the rules: ``duplicate_prompt``, ``over_quota``, ``not_chosen``."""

    def __init__(self, config: LimaConfig) -> None:
        self.config = config

    def schema(self) -> pa.Schema:
        text = [pa.field(name, pa.string()) for name in ("reason", "source", "topic")]
        numbers = [pa.field("prompt", pa.uint64()), pa.field("key", pa.uint64()), pa.field("score", pa.float64())]
        return pa.schema([*numbers, *text, ("words", pa.binary()), ("position", pa.int64())])

    def order(self) -> list[str]:
        """Rows of one prompt together; of equal chats, those of one source and topic."""
        return ["prompt", "key", "source", "topic", "position"]

    def sketch(self, batch: Sequence[Document], positions: Sequence[int]) -> pa.RecordBatch:
        rows = [self._sketch(document, position) for document, position in zip(batch, positions, strict=True)]
        return pa.RecordBatch.from_pylist(rows, schema=self.schema())

    def resolve(self, spool: SortedSpool, workdir: Path, memory_mb: int) -> Iterator[tuple[int, Verdict]]:
        """A drop for each chat but those selected.

        Candidates are held in memory, some 800 bytes each. Where there are more than a quarter of ``memory_mb`` holds,
        the first by their prompts' digests (a random sample) stand for all.

        :raises UserError: ``quotas`` names a source that no row comes from.
        """
        candidates = _Candidates()
        unseen = set(self.config.quotas)
        limit = max(self.config.examples, memory_mb * (1 << 20) // 4 // CANDIDATE_BYTES)
        best: tuple[int, _Row] | None = None
        for prompt, reason, row in _rows(spool):
            unseen -= {row[3], self._bucket(row[3])[0]}
            if reason:
                yield row[0], Verdict.drop(reason)
            elif best is not None and best[0] == prompt:
                # Ascending keys: of equal scores the first stays.
                better = row[2] > best[1][2]
                yield (best[1] if better else row)[0], DUPLICATE
                best = (prompt, row) if better else best
            else:
                yield from self._take(best, candidates, limit)
                best = prompt, row
        yield from self._take(best, candidates, limit)
        if unseen:
            raise UserError(_no_such_source(min(unseen), candidates.sources))
        yield from self._select(candidates)

    def _take(self, best: tuple[int, _Row] | None, into: _Candidates, limit: int) -> Iterator[tuple[int, Verdict]]:
        if best is None:
            return
        if len(into.positions) < limit:
            into.add(best[1])
        else:
            yield best[1][0], OTHER

    def _select(self, chats: _Candidates) -> Iterator[tuple[int, Verdict]]:
        left = sorted(range(len(chats.positions)), key=chats.ranked)
        counted: dict[str, int] = defaultdict(int)
        within = []
        for index in left:
            source, quota = self._bucket(chats.sources[index])
            counted[source] += 1
            if quota is None or counted[source] <= quota:
                within.append(index)
            else:
                yield chats.positions[index], OVER
        left = within
        chosen = self._spread(chats, left)
        for index in left:
            if index not in chosen:
                yield chats.positions[index], OTHER

    def _bucket(self, source: str) -> tuple[str, int | None]:
        """(under which name a source is counted, how many it may give): its own quota, that of the recipe's source that
        it belongs to, or the common one."""
        for name in (source, source.partition("/")[0] if self.config.source is None else source):
            if name in self.config.quotas:
                return name, self.config.quotas[name]
        return source, self.config.quota

    def _spread(self, chats: _Candidates, ranked: list[int]) -> set[int]:
        """The selection: each topic's best, as many as its share."""
        if len(ranked) <= self.config.examples:
            return set(ranked)
        if self.config.topic is not None:
            names: list[Any] = [chats.topics[index] for index in ranked]
        else:
            # In the order of digests: the seed decides which prompt the groups start from.
            by_key = sorted(ranked, key=lambda index: chats.keys[index])
            matrix = np.frombuffer(b"".join(chats.words[index] for index in by_key), dtype="<i2").reshape(-1, WIDTH)
            group = dict(zip(by_key, grouped(matrix, self.config.topics), strict=True))
            names = [group[index] for index in ranked]
        members: dict[Any, list[int]] = defaultdict(list)
        for index, name in zip(ranked, names, strict=True):
            members[name].append(index)
        order = sorted(members)
        counts = shares([len(members[name]) for name in order], self.config.examples, self.config.temperature)
        return {index for name, count in zip(order, counts, strict=True) for index in members[name][:count]}

    def _sketch(self, document: Document, position: int) -> dict[str, Any]:
        config, meta = self.config, document.meta
        score = rating(meta.get(config.score))
        reason = broken_rule(document.messages, score, config)
        prompt = _prompt(document)
        source = _source(document) if config.source is None else str(meta.get(config.source))
        topic = "" if config.topic is None else str(meta.get(config.topic))
        content = [(m.get("role"), m.get("content")) for m in document.messages or ()]
        grouping = not reason and config.topic is None
        return {
            "prompt": _digest(config.seed, " ".join(prompt.casefold().split())),
            # Neither the source nor the topic: the same rows in other files are the same rows.
            "key": _digest(config.seed, repr((content, score))),
            "score": 0.0 if score is None else score,
            "reason": reason,
            "source": source,
            "topic": topic,
            "words": words(prompt).astype("<i2").tobytes() if grouping else b"",
            "position": position,
        }


def _prompt(document: Document) -> str:
    """What is asked first, after the system's message if there is one."""
    asked = [str(m.get("content") or "") for m in document.messages or () if m.get("role") != "assistant"]
    return "\n".join(asked[:2] if document.messages and document.messages[0].get("role") == "system" else asked[:1])


def _source(document: Document) -> str:
    """Core's ids are SOURCE/UNIT:NUMBER for files, each of them a source, and SOURCE/NAME otherwise."""
    name = PLACE.sub("", document.id)
    return name if name != document.id else name.partition("/")[0]


def _digest(seed: int, text: str) -> int:
    data = f"{seed}\0{text}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


def _rows(spool: SortedSpool) -> Iterator[tuple[int, str, _Row]]:
    for batch in spool.batches():
        for at in range(0, batch.num_rows, CHUNK):
            part = batch.slice(at, CHUNK)
            columns = [part.column(name).to_pylist() for name in ("prompt", "reason", *_COLUMNS)]
            for prompt, reason, *row in zip(*columns, strict=True):
                yield prompt, reason, tuple(row)


def _no_such_source(name: str, sources: Sequence[str]) -> Problem:
    known = sorted(set(sources))
    cause = f"they come from {', '.join(known[:6])}{', ...' if len(known) > 6 else ''}" if known else "no chat is left"
    return Problem(f"lima.quotas names {name!r}, which no row comes from", cause, "write a source as it is named there")
