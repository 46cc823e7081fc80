"""Filter ``decontaminate``: documents that share 13 words in a row with an evaluation set (Brown et al. 2020, "Language
Models are Few-Shot Learners", arXiv:2005.14165, appendix C)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from lmgraft.errors import Fault
from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import KEEP, SortedSpool, Verdict
from lmgraft.spool import Spool

from lmgraft_decontaminate.cutting import cuts, widened
from lmgraft_decontaminate.index import Index, build, strings
from lmgraft_decontaminate.plugin import Action, DecontaminateConfig
from lmgraft_decontaminate.words import Words, grams, words_of

__all__ = ["CorpusDecontaminate", "Decontaminate", "decontaminate"]

REASON = "contaminated"
#: Characters of an overlap that a note shows.
SHOWN = 160
#: Words whose n-grams are made at once: they stay in the processor's cache.
SLICE = 1 << 15
_POSITION = attrgetter("position")
_GRAM = attrgetter("gram")


class _Hit(NamedTuple):
    """An n-gram that a document shares with a set."""

    position: int
    """The document."""
    at: int
    """Its first character in its text."""
    start: int
    """What ``cut`` would cut begins here; ``stop`` is the character after it."""
    stop: int
    set: int
    gram: int
    size: int
    """Characters of the text; -1 of chats and pairs, out of which nothing can be cut."""
    quote: str


class _Fitted:
    """What both kinds have in common: the index, and the overlaps of a batch.

    Rules: a gram is a lower-case word between white space without its punctuation (a Han character or kana is one by
    itself); ``ngram`` of them in a row that a document shares with any text of a set are an overlap. Texts of ``ngram``
    words and more are looked for by all their n-grams, those with ``min_words`` and more as a whole (the paper's least
    n for its own analysis is 8), shorter ones not at all: they are counted in the ``sets.json`` of the fit. Every text
    of a row is matched by itself, a question and its answers apart. ``cut`` removes the overlap with 200 characters on
    both sides and pieces of less than 200; documents in more than 10 pieces are dropped, as in the paper.

    Deviations: the pieces of a document stay together, as one document. A cut widens to the next white space. N-grams
    of more than ``max_documents`` documents (the paper: 10) are passed over only where that is set; documents are
    counted, of the corpus that reaches this filter. Not implemented: matching of translations, paraphrases, code by its
    syntax (phi-1) or of embeddings; letters are compared as they are written, so put ``unicode`` before.

    Reason: ``contaminated``. Counts: each set's name, once for each document that overlaps with it. The note quotes
    the first overlap. Chats and pairs are looked at in all their texts, and always dropped.
    """

    def __init__(self, config: DecontaminateConfig) -> None:
        self.config = config
        self._index: Index | None = None

    def inputs(self) -> Mapping[str, str]:
        return {name: str(Path(path).expanduser()) for name, path in self.config.sets.items()}

    def fit(self, inputs: Mapping[str, Iterator[Mapping[str, Any]]], workdir: Path) -> None:
        config = self.config
        if not Index.there(workdir):
            build(inputs, config.columns, config.ngram, config.min_words, workdir)
        self._index = Index(workdir)

    def _hits(self, batch: Sequence[Document], positions: Sequence[int]) -> list[_Hit]:
        """The overlaps of a batch, ascending by document and place in it."""
        index = self._index
        if index is None:
            raise Fault("decontaminate was asked to judge before it was fitted")
        texts = [_texts(document) for document in batch]
        owners = [number for number, own in enumerate(texts) for _ in own]
        flat = [text for own in texts for text in own]
        words = words_of(flat)
        found = []
        for length in index.lengths:
            for first, text, gram, number in _shared(words, index, length):
                span = int(words.starts[first]), int(words.stops[first + length - 1])
                cuttable = batch[owners[text]].text is not None
                found.append(self._hit(positions[owners[text]], flat[text], span, number, gram, cuttable))
        return sorted(found)

    def _hit(self, position: int, text: str, span: tuple[int, int], number: int, gram: int, cuttable: bool) -> _Hit:
        quote = " ".join(text[slice(*span)].split())[:SHOWN]
        start, stop = widened(text, *span, self.config.window) if cuttable else span
        return _Hit(position, span[0], start, stop, number, gram, len(text) if cuttable else -1, quote)

    def _verdict(self, hits: Sequence[_Hit]) -> Verdict:
        """On a document, from all its overlaps."""
        assert self._index is not None
        config, names = self.config, self._index.sets
        counts = {names[number]: 1 for number in sorted({hit.set for hit in hits})}
        note = f"{names[hits[0].set]}: {hits[0].quote}"
        if config.action is Action.cut and hits[0].size >= 0:
            spans = {(hit.start, hit.stop) for hit in hits}
            found = cuts(spans, hits[0].size, config.min_piece, config.max_pieces)
            if found is not None:
                return Verdict(reason=REASON, cuts=found, counts=counts, note=note)
        return Verdict(keep=False, reason=REASON, counts=counts, note=note)


class Decontaminate(_Fitted):
    """Row-wise: every overlap counts."""

    def judge(self, batch: Sequence[Document]) -> list[Verdict]:
        verdicts = [KEEP] * len(batch)
        for number, hits in groupby(self._hits(batch, range(len(batch))), key=_POSITION):
            verdicts[number] = self._verdict(list(hits))
        return verdicts


class CorpusDecontaminate(_Fitted):
    """Corpus-wise, with ``max_documents``: an n-gram in more documents than that is a common phrase."""

    def schema(self) -> pa.Schema:
        numbers = [pa.field(name, pa.int64()) for name in ("position", "at", "start", "stop", "set")]
        return pa.schema([*numbers, ("gram", pa.uint64()), ("size", pa.int64()), ("quote", pa.string())])

    def order(self) -> list[str]:
        return ["gram", "position", "at", "set"]

    def sketch(self, batch: Sequence[Document], positions: Sequence[int]) -> pa.RecordBatch:
        return _rows(self._hits(batch, positions), self.schema())

    def resolve(self, spool: SortedSpool, workdir: Path, memory_mb: int) -> Iterator[tuple[int, Verdict]]:
        chosen = Spool(workdir / "hits", self.schema(), memory_mb)
        for batch in _batches(self._rare(spool)):
            chosen.append(_rows(batch, self.schema()))
        ordered = _read(chosen.sort(["position", "at", "start", "stop", "set", "gram"]))
        for position, hits in groupby(ordered, key=_POSITION):
            yield position, self._verdict(list(hits))

    def _rare(self, spool: SortedSpool) -> Iterator[_Hit]:
        """The overlaps whose n-gram occurs in ``max_documents`` documents at most. Of a common phrase no more rows are
        held than tell that it is one."""
        limit = self.config.max_documents or 0
        for _, hits in groupby(_read(spool), key=_GRAM):
            held: list[_Hit] = []
            seen, last = 0, -1
            for hit in hits:
                seen, last = seen + (hit.position != last), hit.position
                if seen > limit:
                    break
                held.append(hit)
            if seen <= limit:
                yield from held


def decontaminate(config: DecontaminateConfig) -> Decontaminate | CorpusDecontaminate:
    """The filter: corpus-wise where ``max_documents`` is set, which only the whole corpus tells."""
    return Decontaminate(config) if config.max_documents is None else CorpusDecontaminate(config)


def _shared(words: Words, index: Index, length: int) -> Iterator[tuple[int, int, int, int]]:
    """(first word, text, n-gram, set) of each n-gram of ``length`` words that the index has."""
    for begin in range(0, len(words.hashes), SLICE):
        hashes = grams(words.hashes[begin : begin + SLICE + length - 1], length)
        places = index.candidates(hashes, length)
        texts = words.texts(begin + places)
        inside = texts == words.texts(begin + places + length - 1)
        places, texts = places[inside], texts[inside]
        hashes = hashes[places]
        for at, number in index.owners(hashes, length):
            yield begin + int(places[at]), int(texts[at]), int(hashes[at]), number


def _texts(document: Document) -> list[str]:
    if document.text is not None:
        return [document.text]
    said = [message.get("content") for message in document.messages or ()]
    found = [*strings(said), document.prompt, document.chosen, document.rejected]
    return [text for text in found if text]


def _rows(hits: Sequence[_Hit], schema: pa.Schema) -> pa.RecordBatch:
    columns = zip(*hits, strict=True) if hits else [()] * len(schema)
    arrays = [pa.array(column, spec.type) for column, spec in zip(columns, schema, strict=True)]
    return pa.record_batch(arrays, schema=schema)


def _read(spool: SortedSpool) -> Iterator[_Hit]:
    for batch in spool.batches():
        yield from map(_Hit._make, zip(*(batch.column(name).to_pylist() for name in _Hit._fields), strict=True))


def _batches(hits: Iterable[_Hit]) -> Iterator[list[_Hit]]:
    rest = iter(hits)
    while batch := list(islice(rest, 4096)):
        yield batch
