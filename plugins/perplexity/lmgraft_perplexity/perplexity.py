"""The evaluator: a model's perplexity, bits per byte and bits per character on a split of a corpus.

What is counted
- Every token of a document once, given what documents begin with (the end token in models made here) and all of the
  document's text before it that fits.
- The end token after a document is not predicted. Special tokens contribute neither bytes nor nats, as in nanochat's
  ``loss_eval.py``; where a document's text holds one, the scored text is the text without it.
- ``perplexity`` = exp(nats / tokens), ``bits_per_byte`` = nats / (ln 2 x UTF-8 bytes), ``bits_per_character`` =
  nats / (ln 2 x Unicode code points). Only the last two can be compared between tokenizers.
- With ``sources``, only documents whose id core has prefixed with one of these sources.
- gzip and xz compress exactly the scored text: the documents' texts one after the other, nothing between them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from lmgraft.errors import Problem, UserError
from lmgraft.seams.data_source import Document
from lmgraft.seams.evaluator import EvaluationData, Score
from lmgraft.seams.parallelism import ModelHandle
from lmgraft.seams.tokenizer import TextTokenizer, first_id

from lmgraft_perplexity.compressors import Compressed, compressors
from lmgraft_perplexity.plugin import PerplexityConfig
from lmgraft_perplexity.windows import windows

__all__ = ["Perplexity"]

#: Documents that are tokenized in one call.
ENCODED = 32

T = TypeVar("T")
Request = tuple[Sequence[int], Sequence[int]]


@dataclass
class _Counts:
    """Running totals; ``nats`` and ``tokens`` of the scored tokens, the rest of the scored text."""

    documents: int = 0
    tokens: int = 0
    nats: float = 0.0
    bytes: int = 0
    characters: int = 0
    sizes: dict[str, Compressed] = field(default_factory=compressors)

    def add_text(self, text: str) -> None:
        data = text.encode("utf-8", "surrogatepass")
        self.documents += 1
        self.bytes += len(data)
        self.characters += len(text)
        for size in self.sizes.values():
            size.add(data)


class Perplexity:
    """Scores the documents of one split, streaming: memory grows with the longest document, not with the corpus."""

    def __init__(self, config: PerplexityConfig) -> None:
        self._config = config

    def run(
        self, handle: ModelHandle, tokenizer: TextTokenizer, *, data: EvaluationData, limit: int | None
    ) -> list[Score]:
        """``limit`` counts documents. Raises UserError where the window does not fit, the split is empty or the sources
        have nothing in it."""
        window, stride = self._window(handle.context)
        counts = _Counts()
        special = [size == 0 for size in tokenizer.token_bytes()]
        seen: set[str] = set()
        documents = islice(self._chosen(data.documents(self._config.split.value), seen), limit)
        requests = self._requests(documents, tokenizer, special, counts, window, stride)
        for chunk in _chunks(requests, self._config.batch):
            for (_, continuation), scored in zip(chunk, handle.score(chunk), strict=True):
                pairs = zip(continuation, scored.logprobs, strict=True)
                nats = [-logprob for token, logprob in pairs if not special[token]]
                counts.tokens += len(nats)
                counts.nats += math.fsum(nats)
        if not counts.tokens or not counts.bytes:
            raise UserError(self._empty(counts.documents, seen))
        settings: dict[str, Any] = {"split": self._config.split.value, "window": window, "stride": stride}
        return _scores(counts, settings | ({"sources": list(self._config.sources)} if self._config.sources else {}))

    def _chosen(self, documents: Iterable[Document], seen: set[str]) -> Iterator[Document]:
        """Those of the sources; ``seen`` gets the names of all that came by."""
        if not self._config.sources:
            yield from documents
            return
        wanted = frozenset(self._config.sources)
        for document in documents:
            source = document.id.partition("/")[0]
            seen.add(source)
            if source in wanted:
                yield document

    def _window(self, context: int) -> tuple[int, int]:
        window = context if self._config.window is None else self._config.window
        stride = max(1, window // 2) if self._config.stride is None else self._config.stride
        if window > context:
            raise UserError(
                Problem(
                    f"evaluator perplexity: window is {window}",
                    f"the model's context is {context} tokens",
                    f"set window to {context} or less, or to null",
                )
            )
        if stride > window:
            raise UserError(
                Problem(
                    f"evaluator perplexity: stride is {stride}",
                    f"the window holds {window} tokens, and a window cannot score what it skips",
                    f"set stride to {window} or less, or to null for half of the window",
                )
            )
        return window, stride

    def _requests(
        self,
        documents: Iterable[Document],
        tokenizer: TextTokenizer,
        special: Sequence[bool],
        counts: _Counts,
        window: int,
        stride: int,
    ) -> Iterator[Request]:
        begin = first_id(tokenizer)
        for group in _chunks(documents, ENCODED):
            texts = [_text(document) for document in group]
            for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
                holds_special = any(special[token] for token in ids)
                counts.add_text(tokenizer.decode(ids, skip_special=True) if holds_special else text)
                yield from windows(ids, begin, window=window, stride=stride)

    def _empty(self, documents: int, seen: set[str]) -> Problem:
        split = self._config.split.value
        if seen and not documents:
            named = ", ".join(self._config.sources)
            fact = f"evaluator perplexity: the {split} split holds no documents of {named}"
            cause = f"its documents are of {', '.join(sorted(seen))}"
            return Problem(fact, cause, f"name one of these in the evaluator's sources: [{min(seen)}]")
        found = f"its {documents} documents hold no text" if documents else "it holds no documents"
        remedy = "hold some out: corpus.validation_bytes=1000000" if split == "validation" else "check the sources"
        return Problem(f"evaluator perplexity: nothing to score in the {split} split", found, remedy)


def _text(document: Document) -> str:
    if document.text is None:
        raise UserError(
            Problem(
                f"evaluator perplexity: document {document.id} has no text",
                "perplexity is measured on plain text, and this document holds messages or a pair",
                "name a corpus of plain text in the stage's corpus field",
            )
        )
    return document.text


def _scores(counts: _Counts, settings: Mapping[str, Any]) -> list[Score]:
    sizes = {"documents": counts.documents, "bytes": counts.bytes, "characters": counts.characters}
    detail = {**sizes, "tokens": counts.tokens, **settings}
    bits = counts.nats / math.log(2)
    scores = [
        Score("perplexity", _exp(counts.nats / counts.tokens), "", False, detail=detail),
        Score("bits_per_byte", bits / counts.bytes, "bits/byte", False, detail=detail),
        Score("bits_per_character", bits / counts.characters, "bits/character", False, detail=detail),
    ]
    for name, compressed in counts.sizes.items():
        size = compressed.finish()
        value = 8 * size / counts.bytes
        chosen = {key: settings[key] for key in ("split", "sources") if key in settings}
        more = {**sizes, **chosen, "compressed_bytes": size, "level": 9}
        scores.append(Score(f"{name}_bits_per_byte", value, "bits/byte", False, reference=True, detail=more))
    return scores


def _exp(nats: float) -> float:
    """exp, with infinity where it leaves the range of a float (an untrained or broken model)."""
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
