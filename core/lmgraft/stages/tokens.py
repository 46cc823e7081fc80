"""The kind of stage ``tokens``: a corpus encoded and packed as Megatron's ``.bin`` / ``.idx``."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lmgraft.artifacts import Artifact, corpus, examples, tokens
from lmgraft.artifacts import tokenizer as tokenizers
from lmgraft.errors import Problem, UserError
from lmgraft.stages import _encode_rows
from lmgraft.stages.plugin import TokensStage
from lmgraft.stages.tokenizer import text_bytes

if TYPE_CHECKING:
    from lmgraft.component import StageConfig
    from lmgraft.seams.stage import StageContext
    from lmgraft.seams.tokenizer import TextTokenizer

__all__ = ["Tokens"]

#: Characters encoded at a time by a thread; a document is never cut, so a longer one makes a batch of its own.
BATCH = 1 << 20

Encode = Callable[[list[str]], list[NDArray[np.int32]]]


class Tokens:
    """Encodes each split in corpus order, one sequence a document, closed by the end token.

    The bytes that come out do not depend on ``workers``: batches are cut by size and written in order. Memory is
    bounded by two batches a worker.
    """

    artifact = "tokens"

    def __init__(self, config: StageConfig) -> None:
        assert isinstance(config, TokensStage)
        self.config = config

    def identity(self, context: StageContext) -> Mapping[str, Any]:
        return {}

    def run(self, context: StageContext) -> None:
        if self.config.objective is not None:
            _encode_rows.encode_rows(context)
            return
        folder = context.inputs["corpus"][0].path
        source = context.inputs["tokenizer"][0].path
        saved = tokenizers.load(source)
        tokenizers.copy(source, context.out)
        dtype = tokens.token_dtype(saved.vocab_size)
        names = corpus.splits(folder)
        splits = {split: self._encode(context, saved, folder, split, dtype) for split in names}
        if "train" not in splits or not splits["train"].documents:
            fact = f"stage {context.name}: the corpus {self.config.corpus} holds no training text"
            raise UserError(Problem(fact, "there is nothing to encode", "give the corpus a source with text"))
        tokens.TokensInfo(
            vocab_size=saved.vocab_size,
            dtype=dtype.name,
            fingerprint=saved.fingerprint(),
            end_id=saved.end_id,
            pad_id=saved.pad_id,
            splits=splits,
        ).write(context.out)

    def _encode(
        self, context: StageContext, saved: TextTokenizer, folder: Path, split: str, dtype: np.dtype[Any]
    ) -> tokens.SplitCount:
        size = characters = 0
        with (
            tokens.TokenWriter(context.out / split, dtype, saved.end_id) as writer,
            context.progress(f"encoding {split}", text_bytes(folder, split) or None, "B") as progress,
        ):
            batches = _batches(_texts(folder, split))
            encode = partial(tokenizers.encode_arrays, saved)
            for batch, encoded in _in_order(encode, batches, _threads(self.config.workers)):
                context.alive()
                for ids in encoded:
                    writer.add(ids)
                read = sum(len(text.encode()) for text in batch)
                size += read
                characters += sum(len(text) for text in batch)
                progress.advance(read)
        return tokens.SplitCount(writer.documents, writer.tokens, size, characters)

    def summary(self, artifact: Artifact) -> Iterator[tuple[str, str]]:
        if examples.is_rows(artifact.path):
            yield from _encode_rows.row_summary(artifact)
            return
        held = tokens.info(artifact.path)
        for split, count in held.splits.items():
            yield f"{split} tokens", f"{count.tokens:,}"
            yield f"{split} documents", f"{count.documents:,}"
        train = held.splits["train"]
        yield "bytes a token", f"{train.bytes / train.tokens:.2f}"


def _threads(workers: int) -> int:
    if workers:
        return workers
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _texts(folder: Path, split: str) -> Iterator[str]:
    for document in corpus.documents(folder, split, columns=("text",)):
        if document.text is None:
            fact = f"document {document.id!r} of split {split} has no text"
            cause = "packed tokens are plain documents for pretraining; this one is a conversation or a pair"
            remedy = "train on this corpus directly with an objective made for it, and keep it out of this stage"
            raise UserError(Problem(fact, cause, remedy))
        yield document.text


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _in_order(
    encode: Encode, batches: Iterator[list[str]], workers: int
) -> Iterator[tuple[list[str], list[NDArray[np.int32]]]]:
    """Encodes batches in ``workers`` threads (the library holds no interpreter lock) and gives them back in order."""
    waiting: deque[tuple[list[str], Future[list[NDArray[np.int32]]]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="encode") as pool:
        try:
            for batch in batches:
                waiting.append((batch, pool.submit(encode, batch)))
                if len(waiting) >= 2 * workers:
                    done, future = waiting.popleft()
                    yield done, future.result()
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
