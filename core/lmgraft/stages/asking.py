"""What an evaluate stage does on every rank of one model: run the evaluators, let the model write, keep the answers.

The work is picklable and answers through files alone, so it runs under any parallelism. All ranks ask the same
questions in the same order (a layout answers together or not at all); the main rank writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmgraft.artifacts.scores import SAMPLES, SampleRow, ScoreRow, write_rows
from lmgraft.component import Component, ComponentConfig
from lmgraft.errors import Problem, UserError
from lmgraft.seams.data_source import Document
from lmgraft.seams.evaluator import Score
from lmgraft.seams.parallelism import Engine, EnginePlan, ModelHandle, Sampling, Scored
from lmgraft.seams.tokenizer import TextTokenizer, first_id
from lmgraft.stages.plugin import Sample
from lmgraft.training.events import Events, FileEvents, NoEvents

__all__ = ["Questions", "chat_ids", "holding", "prompt_ids", "score_file"]


def score_file(folder: Path, evaluator: str) -> Path:
    """Where one evaluator's rows are kept until the stage is whole."""
    return folder / f"{evaluator}.scores.json"


def prompt_ids(tokenizer: TextTokenizer, prompt: str) -> list[int]:
    """The ids that a prompt is given as: those of a document's start, as in training."""
    return [first_id(tokenizer), *tokenizer.encode_batch([prompt])[0]]


def chat_ids(tokenizer: TextTokenizer, question: str) -> list[int] | None:
    """The ids that a question is asked with; None where the model carries no chat template.

    :raises UserError: its template cannot write a question.
    """
    from lmgraft import chat

    if tokenizer.chat_template is None:
        return None
    return chat.encode_prompt([{"role": "user", "content": question}], tokenizer, tokenizer.chat_template)


def holding(corpora: Sequence[Path], columns: frozenset[str]) -> list[Path]:
    """Those corpora that have all ``columns``, in their order."""
    from pyarrow import parquet

    from lmgraft.artifacts import corpus

    return [path for path in corpora if columns <= set(parquet.read_schema(corpus.shards(path)[0]).names)]


@dataclass(frozen=True)
class Questions:
    """The work for one model. Called on every rank with the function that makes an engine."""

    stage: str
    model: Path
    """The model folder; it holds the tokenizer, too."""
    corpora: Sequence[Path]
    evaluators: Mapping[str, tuple[Component[Any], ComponentConfig]]
    """Those that have not answered yet."""
    sample: Sample | None
    """None where the samples are written already."""
    limit: int | None
    device: str
    precision: str
    seed: int
    out: Path

    def __call__(self, make_engine: Callable[[EnginePlan], Engine]) -> None:
        from lmgraft.artifacts import tokenizer as tokenizers
        from lmgraft.registry import build

        tokenizer = tokenizers.load(self.model)
        engine = make_engine(self._plan())
        events = FileEvents(self.out) if engine.main else NoEvents(self.out)
        events.begin(0)
        handle = _Interruptible(engine.handle(), events)
        data = _Corpora(self.corpora, events)
        for name, (component, config) in self.evaluators.items():
            data.reader = name
            scores = build(component, config).run(handle, tokenizer, data=data, limit=self.limit)
            if engine.main:
                write_rows(score_file(self.out, name), [self._row(name, score) for score in scores])
        if self.sample is not None:
            samples = list(self._samples(handle, tokenizer, self.sample))
            if engine.main:
                write_rows(self.out / SAMPLES, samples)

    def _plan(self) -> EnginePlan:
        from lmgraft.loading import architecture_for, vocab_size

        return EnginePlan(
            architecture=architecture_for(self.model),
            vocab_size=vocab_size(self.model),
            device=self.device,
            precision=self.precision,
            seed=self.seed,
            weights=self.model,
        )

    def _row(self, evaluator: str, score: Score) -> ScoreRow:
        return ScoreRow(
            stage=self.stage,
            evaluator=evaluator,
            name=score.name,
            value=float(score.value),
            unit=score.unit,
            reference=score.reference,
            higher_is_better=score.higher_is_better,
            detail=dict(score.detail),
        )

    def _samples(self, handle: ModelHandle, tokenizer: TextTokenizer, sample: Sample) -> Iterator[SampleRow]:
        from lmgraft.chat import stop_ids

        asked = [(prompt, prompt_ids(tokenizer, prompt)) for prompt in sample.prompts]
        asked += [(text, ids) for text in sample.chat if (ids := chat_ids(tokenizer, text)) is not None]
        for number, (prompt, ids) in enumerate(asked):
            is_chat = number >= len(sample.prompts)
            room = handle.context + 1 - len(ids)  # the last token is written and never read
            sampling = Sampling(
                max_new_tokens=min(sample.max_new_tokens, room),
                temperature=sample.temperature,
                top_k=sample.top_k,
                top_p=sample.top_p,
                seed=self.seed + number,
                stop_ids=stop_ids(tokenizer, tokenizer.chat_template if is_chat else None),
            )
            text, finished = _write(handle, tokenizer, ids, sampling)
            yield SampleRow(stage=self.stage, prompt=prompt, text=text, finished=finished, longest_copy=None)


def _write(handle: ModelHandle, tokenizer: TextTokenizer, ids: Sequence[int], sampling: Sampling) -> tuple[str, bool]:
    """(What follows the prompt, did the model end it)."""
    new = list(handle.generate(ids, sampling))
    finished = (bool(new) and new[-1] in sampling.stop_ids) or len(new) < sampling.max_new_tokens
    # Decoded in one piece and cut: what a token stands for may depend on the ones before it.
    whole = tokenizer.decode([*ids, *new], skip_special=True)
    return whole.removeprefix(tokenizer.decode(ids, skip_special=True)), finished


class _Corpora:
    """The corpora of the stage, as evaluators see them; documents move the progress bar."""

    def __init__(self, corpora: Sequence[Path], events: Events) -> None:
        self._corpora = corpora
        self._events = events
        self._read = 0
        self.reader = ""
        """The evaluator at work."""

    def documents(self, split: str, columns: frozenset[str] = frozenset({"text"})) -> Iterator[Document]:
        """See :class:`lmgraft.seams.evaluator.EvaluationData`. A corpus that held nothing out is passed over where
        another one did.

        :raises UserError: no corpus has these columns, or none of those that have them has this split.
        """
        from lmgraft.artifacts import corpus

        fitting = self._fitting(columns)
        # Where none has the split, the first one says so in its own words.
        for path in [path for path in fitting if split in corpus.splits(path)] or fitting[:1]:
            for document in corpus.documents(path, split):
                yield document
                self._read += 1
                self._events.progress(self._read, {"evaluator": self.reader})

    def _fitting(self, columns: frozenset[str]) -> list[Path]:
        if not self._corpora:
            fact = f"evaluate: corpus is null, and {self.reader} reads documents"
            raise UserError(Problem(fact, "there is nothing to read", "name a corpus stage: evaluate.corpus=[corpus]"))
        fitting = holding(self._corpora, columns)
        if not fitting:
            names = ", ".join(sorted(columns))
            fact = f"evaluate: {self.reader} reads documents with {names}"
            cause = "no corpus that the stage names has these columns"
            raise UserError(Problem(fact, cause, "add one that has them: evaluate.corpus=[corpus,pairs]"))
        return fitting


class _Interruptible:
    """A model that looks whether the stage must stop before it is asked."""

    def __init__(self, handle: ModelHandle, events: Events) -> None:
        self._handle = handle
        self._events = events

    @property
    def context(self) -> int:
        return self._handle.context

    def score(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Scored]:
        self._events.alive()
        return self._handle.score(requests)

    def generate(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[int]:
        self._events.alive()
        return self._handle.generate(prompt, sampling)
