"""The kind of stage ``tokenizer``: a tokenizer learnt from the training documents of a corpus, or made of one that is
there, and measured."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmgraft.artifacts import Artifact, corpus
from lmgraft.artifacts import tokenizer as tokenizers
from lmgraft.errors import Problem, UserError
from lmgraft.seams.tokenizer import ExtendingTokenizer, ReadingTokenizer
from lmgraft.stages._attended import attended
from lmgraft.stages._corpus_units import path_digests
from lmgraft.stages._tokenizer_measure import MEASURE, Measure, measured_bytes
from lmgraft.stages._tokenizer_sample import Learnt, learning, sample
from lmgraft.stages.plugin import TokenizerStage
from lmgraft.tokenview.view import open_folder

if TYPE_CHECKING:
    from lmgraft.component import StageConfig
    from lmgraft.seams.stage import Progress, StageContext

__all__ = ["SAMPLE", "TrainTokenizer", "sample", "text_bytes"]

SAMPLE = "sample.json"
"""What the vocabulary was learnt from: of each source how much of how much, and the rule."""


class TrainTokenizer:
    """Takes the tokenizer part through ``train`` (or ``extend``) and ``save``, and measures what came out.

    Memory is bounded by what the part keeps of ``sample_bytes`` of text, whatever the size of the corpus.
    """

    artifact = "tokenizer"

    def __init__(self, config: StageConfig) -> None:
        assert isinstance(config, TokenizerStage)
        self.config = config

    def identity(self, context: StageContext) -> Mapping[str, Any]:
        """The contents of files that the part reads."""
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
        base = self._base(context)
        learnt = Learnt()
        with context.progress("learning a vocabulary", min(total, self.config.sample_bytes), "B") as progress:
            texts = _watched(learning(folder, self.config.sample_bytes / total, learnt), context, progress)
            if base is not None and isinstance(part, ExtendingTokenizer):
                attended(partial(part.extend, base, texts), context.alive)
            else:
                attended(partial(part.train, texts), context.alive)
        component, _ = context.component("tokenizer")
        tokenizers.save(part, component, context.out)
        tokenizers.load(context.out)  # has what training will ask for: an end, and padding that is not the end
        if learnt.sources:  # a part that loads a vocabulary asks for no text
            text = json.dumps(learnt.told(self.config.sample_bytes), indent=2, ensure_ascii=False)
            (context.out / SAMPLE).write_text(text + "\n", encoding="utf-8", newline="\n")
        self._measure(context, base)

    def _base(self, context: StageContext) -> Path | None:
        found = context.inputs.get("base") or ()
        return found[0].path if found else None

    def _measure(self, context: StageContext, base: Path | None) -> None:
        measure = Measure(
            open_folder(context.out, context.name),
            open_folder(base, str(self.config.base)) if base is not None else None,
            self.config.measure_bytes,
        )
        folders = [given.path for role in ("corpus", "also_measured") for given in context.inputs.get(role) or ()]
        sizes = [
            min(size, self.config.measure_bytes) for folder in folders for _, size in measured_bytes(folder).values()
        ]
        with context.progress("measuring tokens", sum(sizes), "B") as progress, tokenizers.library_threads():

            def advance(amount: int) -> None:
                context.alive()
                progress.advance(amount)

            measure.run(folders, context.out, advance)

    def summary(self, artifact: Artifact) -> Iterator[tuple[str, str]]:
        measure = json.loads((artifact.path / MEASURE).read_text(encoding="utf-8"))
        yield "vocabulary", f"{measure['vocab_size']:,}"
        if not measure["tokens"]:
            return
        yield f"bytes a token ({measure['split']})", f"{measure['bytes'] / measure['tokens']:.2f}"
        if measure.get("words"):
            yield "tokens a word", f"{measure['tokens'] / measure['words']:.2f}"
        if measure.get("unknown"):
            yield "unknown tokens", f"{100 * measure['unknown'] / measure['tokens']:.2f}%"
        if "changed" in measure:
            lines = measure["changed"]["lines"]
            yield f"lines changed against {self.config.base}", f"{lines['changed']:,} of {lines['of']:,}"


def text_bytes(folder: Path, split: str) -> int:
    """UTF-8 bytes of text in a split, as the corpus' funnel counted them."""
    return int(corpus.funnel(folder)["bytes"].get(split, 0))


def _watched(texts: Iterator[str], context: StageContext, progress: Progress) -> Iterator[str]:
    for number, text in enumerate(texts):
        if number % 256 == 0:
            context.alive()
        progress.advance(len(text.encode()))
        yield text
