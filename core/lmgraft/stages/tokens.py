"""The kind of stage ``tokens``: a corpus encoded and packed as Megatron's ``.bin`` / ``.idx``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lmgraft.artifacts import Artifact, corpus, examples, tokens
from lmgraft.artifacts import tokenizer as tokenizers
from lmgraft.artifacts.tokenizer import SavedTokenizer
from lmgraft.encoding.checking import Differs
from lmgraft.encoding.choosing import choose, reason, reference_of, refusal
from lmgraft.encoding.engines import Engine, Reference, Unusable
from lmgraft.encoding.pipeline import encode_split
from lmgraft.errors import Problem, UserError
from lmgraft.seams.tokenizer import first_id
from lmgraft.stages import _encode_rows
from lmgraft.stages.encoders import Encoder
from lmgraft.stages.plugin import TokensStage
from lmgraft.stages.tokenizer import text_bytes

if TYPE_CHECKING:
    from lmgraft.component import StageConfig
    from lmgraft.seams.stage import StageContext
    from lmgraft.seams.tokenizer import TextTokenizer

__all__ = ["Tokens"]


class Tokens:
    """Encodes each split in corpus order, one sequence a document, closed by the end token.

    The bytes that come out depend neither on the library that encodes nor on ``workers``. Unfinished files lie in
    ``context.work``: a stage that was killed goes on there (:class:`lmgraft.artifacts.tokens.TokenWriter`).
    """

    artifact = "tokens"

    def __init__(self, config: StageConfig) -> None:
        assert isinstance(config, TokensStage)
        self.config = config

    def identity(self, context: StageContext) -> Mapping[str, Any]:
        return {}

    def run(self, context: StageContext) -> None:
        if self.config.objective is not None:
            _encode_rows.encode_rows(context, self.config.workers or _cores())
            return
        source = context.inputs["tokenizer"][0].path
        saved = tokenizers.load(source)
        splits = self._splits(context)
        reference = reference_of(saved, source)
        engine = choose(context, self.config.encoder, saved, reference, splits)
        try:
            counts = self._encode(context, saved, engine, reference, splits)
        except (Differs, Unusable) as error:
            if self.config.encoder is Encoder.gigatoken:
                raise UserError(refusal(context, error)) from error
            cause = reason(context.inputs["corpus"][0].path, error)
            context.note(f"{context.name}: starting over with tokenizers; gigatoken: {cause}")
            engine = reference
            counts = self._encode(context, saved, reference, reference, splits)
        context.emit({"encoder": engine.name})  # for the page: the artifact is the same, whichever it was
        tokenizers.copy(source, context.out)
        tokens.TokensInfo(
            vocab_size=saved.vocab_size,
            dtype=tokens.token_dtype(saved.vocab_size).name,
            fingerprint=saved.fingerprint(),
            end_id=saved.end_id,
            pad_id=saved.pad_id,
            splits=counts,
            first_id=first_id(saved),
        ).write(context.out)

    def _splits(self, context: StageContext) -> dict[str, int]:
        """Bytes of text in each split; there must be some to train on."""
        folder = context.inputs["corpus"][0].path
        splits = {split: text_bytes(folder, split) for split in corpus.splits(folder)}
        if "train" not in splits or not corpus.count(folder, "train"):
            fact = f"stage {context.name}: the corpus {self.config.corpus} holds no training text"
            raise UserError(Problem(fact, "there is nothing to encode", "give the corpus a source with text"))
        return splits

    def _encode(
        self,
        context: StageContext,
        saved: TextTokenizer,
        engine: Engine,
        reference: Reference,
        splits: Mapping[str, int],
    ) -> dict[str, tokens.SplitCount]:
        dtype = tokens.token_dtype(saved.vocab_size)
        cutter = saved.cutter if isinstance(saved, SavedTokenizer) else None
        workers = self.config.workers or _cores()
        counts, writers = {}, []
        for split, size in splits.items():
            writer = tokens.TokenWriter(
                context.out / split, dtype, saved.end_id, work=context.work / "packed", by=engine.name
            )
            counts[split] = encode_split(context, engine, reference, cutter, split, size, writer, saved.end_id, workers)
            writers.append(writer)
        for writer in writers:
            writer.publish()
        return counts

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


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
