"""The kind of stage ``tokenizer``: a tokenizer learnt from the training documents of a corpus."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmgraft.artifacts import Artifact, corpus
from lmgraft.artifacts import tokenizer as tokenizers
from lmgraft.errors import Problem, UserError
from lmgraft.seams.tokenizer import ReadingTokenizer
from lmgraft.stages._corpus_units import path_digests
from lmgraft.stages.plugin import TokenizerStage

if TYPE_CHECKING:
    from lmgraft.component import StageConfig
    from lmgraft.seams.stage import Progress, StageContext

__all__ = ["TrainTokenizer", "sample", "text_bytes"]

MEASURE = "measure.json"

#: Text on which bytes a token are measured.
MEASURED_BYTES = 1 << 20


def sample(texts: Iterator[str], share: float) -> Iterator[str]:
    """Pieces of ``texts`` (whole documents where they are short) that hold about ``share`` of the text.

    Piece n of document m is taken where a hash of (m, n), as a fraction, is below ``share``: so the sample is spread
    evenly, whatever the order of the corpus, and the same for the same corpus. Long documents are cut, or a few books
    would make the sample much larger or smaller than asked. Where chance takes nothing, the first piece is taken.
    """
    first: str | None = None
    for number, text in enumerate(texts):
        for part, piece in enumerate(tokenizers.pieces(text)):
            if number == part == 0:
                first = piece
            if share >= 1 or _fraction(number, part) < share:
                first = None
                yield piece
    if first is not None:
        yield first


def _fraction(number: int, part: int) -> float:
    digest = hashlib.blake2b(f"{number}:{part}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


class TrainTokenizer:
    """Takes the tokenizer part through ``train`` and ``save``, and measures what came out."""

    artifact = "tokenizer"

    def __init__(self, config: StageConfig) -> None:
        assert isinstance(config, TokenizerStage)
        self.config = config

    def identity(self, context: StageContext) -> Mapping[str, Any]:
        part = context.part("tokenizer")
        if not isinstance(part, ReadingTokenizer):
            return {}
        return {"inputs": path_digests(context, "tokenizer", part.inputs())}

    def run(self, context: StageContext) -> None:
        folder = context.inputs["corpus"][0].path
        total = text_bytes(folder, "train")
        if not total:
            fact = f"stage {context.name}: the corpus {self.config.corpus} holds no text to train on"
            raise UserError(Problem(fact, "a vocabulary is learnt from text", "give the corpus a source with text"))
        part = context.part("tokenizer")
        with context.progress("sampling text", min(total, self.config.sample_bytes), "B") as progress:
            texts = sample(corpus.texts(folder, "train"), self.config.sample_bytes / total)
            part.train(_watched(texts, context, progress))
        component, _ = context.component("tokenizer")
        tokenizers.save(part, component, context.out)
        _measure(folder, context.out)

    def summary(self, artifact: Artifact) -> Iterator[tuple[str, str]]:
        measure = json.loads((artifact.path / MEASURE).read_text(encoding="utf-8"))
        yield "vocabulary", f"{measure['vocab_size']:,}"
        if measure["tokens"]:
            yield f"bytes a token ({measure['split']})", f"{measure['bytes'] / measure['tokens']:.2f}"


def text_bytes(folder: Path, split: str) -> int:
    """UTF-8 bytes of text in a split, as the corpus' funnel counted them."""
    return int(corpus.funnel(folder)["bytes"].get(split, 0))


def _watched(texts: Iterator[str], context: StageContext, progress: Progress) -> Iterator[str]:
    for number, text in enumerate(texts):
        if number % 256 == 0:
            context.alive()
        progress.advance(len(text.encode()))
        yield text


def _measure(folder: Path, out: Path) -> None:
    """Bytes a token on held-out text where there is some, else on the text learnt from."""
    saved = tokenizers.load(out)
    split = "validation" if text_bytes(folder, "validation") else "train"
    size = tokens = 0
    for text in sample(corpus.texts(folder, split), MEASURED_BYTES / text_bytes(folder, split)):
        size += len(text.encode())
        tokens += len(tokenizers.encode_arrays(saved, [text])[0])
    measure = {"vocab_size": saved.vocab_size, "split": split, "bytes": size, "tokens": tokens}
    (out / MEASURE).write_text(json.dumps(measure, indent=2) + "\n", encoding="utf-8")
