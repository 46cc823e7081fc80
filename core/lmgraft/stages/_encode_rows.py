"""The tokens stage's work where it has an objective: the rows of a corpus, encoded once, as Parquet with their masks.

A shard is sealed by a note beside it that says how far the corpus has been read and what was counted, so a stage that
was killed goes on after the last sealed one and writes the same bytes. Memory is that of one row group and of what the
threads have in hand. Threads share Python's interpreter and gain what the tokenizer's library spends without it, which
is about half of the time.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lmgraft.artifacts import Artifact, corpus, examples
from lmgraft.artifacts import tokenizer as tokenizers
from lmgraft.artifacts.examples import EncodedBy, Row, RowCount, RowsInfo, ShardWriter
from lmgraft.component import Component, ComponentConfig
from lmgraft.errors import SHOWN, Fault, Problem, UserError
from lmgraft.registry import package_hash
from lmgraft.rows.refused import Refused
from lmgraft.seams.data_source import Document
from lmgraft.seams.objective import Example, Objective
from lmgraft.seams.tokenizer import TextTokenizer
from lmgraft.stages._row_data import encoding_of

if TYPE_CHECKING:
    from typing import Any

    from lmgraft.seams.stage import Progress, StageContext

__all__ = ["encode_rows", "encoded_by", "row_summary"]

#: Tokens of a shard: 128 MiB of ids and masks before they are compressed.
SHARD_TOKENS = 16 << 20
#: Documents that a thread takes at a time.
BATCH = 64

Found = tuple[Document, "list[Example] | UserError"]


def encoded_by(component: Component[Any], config: ComponentConfig) -> EncodedBy:
    """What tells this objective's rows from another's."""
    package = component.target.partition(":")[0].partition(".")[0]
    return EncodedBy(config.part, package_hash(package), component.revision, encoding_of(config))


def encode_rows(context: StageContext, workers: int = 1) -> None:
    """Writes the artifact of :mod:`lmgraft.artifacts.examples` into ``context.out``, with ``workers`` threads.

    :raises UserError: rows that the objective refuses, all of them counted; a split that gives no example.
    """
    data, source = context.inputs["corpus"][0], context.inputs["tokenizer"][0].path
    saved, objective = tokenizers.load(source), context.part("objective")
    # A reference's log-probabilities belong to the stage that trains: many references may be tried on the same rows.
    names = sorted(getattr(objective, "values", frozenset)() - {"reference"})
    told = RowsInfo(
        vocab_size=saved.vocab_size,
        fingerprint=saved.fingerprint(),
        end_id=saved.end_id,
        pad_id=saved.pad_id,
        corpus=data.digest,
        objective=encoded_by(*context.component("objective")),
        values=names,
        splits={
            split: _Split(context, saved, names, data.path, split, workers).run() for split in corpus.splits(data.path)
        },
    )
    tokenizers.copy(source, context.out)
    told.write(context.out)


def row_summary(artifact: Artifact) -> Iterator[tuple[str, str]]:
    """(name, value) pairs for the table at the end of a run."""
    for split, count in examples.info(artifact.path).splits.items():
        yield f"{split} rows", f"{count.units:,}"
        yield f"{split} tokens", f"{count.tokens:,}"
        yield f"of {split} tokens learnt", f"{count.learnt / max(count.tokens, 1):.0%}"
        yield f"tokens in the longest {split} row", f"{count.longest:,}"


@dataclass(frozen=True, slots=True)
class _Split:
    context: StageContext
    tokenizer: TextTokenizer
    names: list[str]
    """Of the values that the loss reads."""
    corpus: Path
    split: str
    workers: int

    def run(self) -> RowCount:
        """Every shard that is not sealed yet, and all of them under their final names; gives the counts."""
        index, count = self._resume()
        refused = Refused()
        total = corpus.count(self.corpus, self.split)
        documents = islice(corpus.documents(self.corpus, self.split), count.documents, None)
        with (
            self.context.progress(f"encoding {self.split} rows", total, "rows") as bar,
            closing(self._encoded(documents)) as encoded,
        ):
            bar.advance(count.documents)
            while count.documents < total:
                count = self._shard(index, count, encoded, refused, bar, total)
                index += 1
        problems = list(refused.problems(self.context.name, self.split))
        if not problems and not count.units:
            cause = f"documents: {count.documents:,}; with nothing to learn: {count.empty:,}"
            fact = f"stage {self.context.name}: split {self.split} gives no example"
            problems.append(Problem(fact, cause, "give the corpus rows"))
        if problems:
            raise UserError(problems[:SHOWN])
        for number in range(index):
            _publish(self._path(number), self.context.out / examples.shard_name(self.split, number, index))
        return count

    def _resume(self) -> tuple[int, RowCount]:
        """Sealed shards, and what was counted up to there."""
        index, count = 0, RowCount()
        while self._note(index).is_file() and self._path(index).is_file():
            count, index = RowCount(**json.loads(self._note(index).read_text(encoding="utf-8"))), index + 1
        return index, count

    def _shard(
        self, index: int, before: RowCount, encoded: Iterator[Found], refused: Refused, bar: Progress, total: int
    ) -> RowCount:
        """One shard more; gives the counts after it."""
        self._path(index).parent.mkdir(exist_ok=True)
        tally, writer = _Tally(before), ShardWriter(self._path(index))
        try:
            for document, found in encoded:
                self.context.alive()
                self._add(document, found, tally, writer, refused)
                bar.advance()
                if writer.tokens >= SHARD_TOKENS and tally.documents < total:
                    break
        except BaseException:
            writer.discard()
            raise
        count = tally.count()
        if refused.count:
            writer.discard()  # nothing will come of it; what is left is read to count how many rows are refused
            return count
        writer.close()
        self._seal(index, count)
        return count

    def _add(
        self,
        document: Document,
        found: list[Example] | UserError,
        tally: _Tally,
        writer: ShardWriter,
        refused: Refused,
    ) -> None:
        tally.documents += 1
        if isinstance(found, UserError):
            refused.add(found)
            return
        tally.empty += not found
        for example in found:
            lacking = [name for name in self.names if name not in example.values]
            if lacking:
                raise Fault(f"the objective reads {', '.join(lacking)} and its encode() does not give them")
            row = Row(
                document.id,
                tally.units,
                example.role,
                np.asarray(example.tokens, np.int32),
                np.asarray(example.weights, np.float32),
                [example.values[name] for name in self.names],
            )
            writer.add(row)
            tally.add(row)
        tally.units += bool(found)

    def _encoded(self, documents: Iterator[Document]) -> Generator[Found]:
        """Each document and what became of it, in order; each thread has an objective of its own."""
        own = threading.local()

        def work(batch: list[Document]) -> list[Found]:
            if not hasattr(own, "objective"):
                own.objective = self.context.part("objective")
            return [(document, _examples(own.objective, document, self.tokenizer)) for document in batch]

        batches = iter(lambda: list(islice(documents, BATCH)), [])
        if self.workers == 1:
            for batch in batches:
                yield from work(batch)
        else:
            yield from _in_order(work, batches, self.workers)

    def _seal(self, index: int, count: RowCount) -> None:
        note = self._note(index)
        partial = note.with_name(f".{note.name}.partial")
        with partial.open("w", encoding="utf-8") as file:
            json.dump(asdict(count), file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(note)

    def _path(self, index: int) -> Path:
        return self.context.work / "rows" / f"{self.split}-{index:05d}.parquet"

    def _note(self, index: int) -> Path:
        return self._path(index).with_suffix(".json")


def _examples(objective: Objective, document: Document, tokenizer: TextTokenizer) -> list[Example] | UserError:
    try:
        return objective.encode(document, tokenizer)
    except UserError as error:
        return error


def _in_order(
    work: Callable[[list[Document]], list[Found]], batches: Iterator[list[Document]], workers: int
) -> Iterator[Found]:
    waiting: deque[Future[list[Found]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="rows") as pool:
        try:
            for batch in batches:
                waiting.append(pool.submit(work, batch))
                if len(waiting) >= 2 * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class _Tally:
    """A :class:`RowCount` that grows."""

    def __init__(self, before: RowCount) -> None:
        self.documents, self.units, self.empty = before.documents, before.units, before.empty
        self.sequences, self.tokens, self.learnt = before.sequences, before.tokens, before.learnt
        self.longest, self.lengths = before.longest, dict(before.lengths)

    def add(self, row: Row) -> None:
        length = len(row.tokens) - 1
        edge = str(examples.bucket(length))
        self.sequences += 1
        self.tokens += length
        self.learnt += int(np.count_nonzero(row.weights[1:]))
        self.longest = max(self.longest, length)
        self.lengths[edge] = self.lengths.get(edge, 0) + 1

    def count(self) -> RowCount:
        lengths = {edge: self.lengths[edge] for edge in sorted(self.lengths, key=int)}
        return RowCount(**{**vars(self), "lengths": lengths})


def _publish(path: Path, out: Path) -> None:
    """Links where the file system can, since a copy doubles the writing; ``work`` keeps its own name of the file, for
    a stage that is killed before the artifact is whole."""
    try:
        os.link(path, out)
    except OSError:
        shutil.copyfile(path, out)
