"""The stage ``evaluate``: every model through every evaluator, and some text by each: scores.json and samples.json.

Each (model, evaluator) pair is kept under ``work`` as soon as it is known, so a stage that was killed asks only what
is still open. Samples are looked up in the corpora's training documents: a fluent line that is a copy is no success.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lmgraft.artifacts import Artifact
from lmgraft.artifacts.scores import SAMPLES, SampleRow, ScoreRow, read, read_samples, write
from lmgraft.component import ComponentConfig, StageConfig
from lmgraft.errors import Problem, UserError
from lmgraft.seams.stage import StageContext
from lmgraft.stages.asking import Questions, chat_ids, holding, prompt_ids, score_file
from lmgraft.stages.copies import TrainingText
from lmgraft.stages.plugin import EvaluateStage
from lmgraft.training.events import Follower

__all__ = ["Evaluate"]


class Evaluate:
    """Satisfies :class:`lmgraft.seams.stage.Stage`."""

    artifact = "scores"

    def __init__(self, config: StageConfig) -> None:
        assert isinstance(config, EvaluateStage)
        self._config = config

    def identity(self, context: StageContext) -> Mapping[str, Any]:
        """Precision as it is used (``auto`` differs between machines), the seed of the samples, and the models' names,
        which stand in every row."""
        names = [model.stage for model in context.inputs["models"]]
        return {"precision": self._precision(context), "seed": context.seed, "models": names}

    def run(self, context: StageContext) -> None:
        models = context.inputs["models"]
        for model in models:
            self._check_prompts(model)
        for model in models:
            self._ask(context, model)
        scores = [row for model in models for row in self._scores(context, model)]
        samples = [row for model in models for row in read_samples(_folder(context, model))]
        write(context.out, scores, self._look_up(context, samples))

    def summary(self, artifact: Artifact) -> Iterator[tuple[str, str]]:
        rows = [row for row in read(artifact.path) if not row["reference"]]
        givers: dict[str, set[str]] = {}
        for row in rows:
            givers.setdefault(row["name"], set()).add(row["evaluator"])
        for row in rows:
            # Two evaluators of one kind, each on a language of its own, have scores of the same names.
            by = f" by {row['evaluator']}" if len(givers[row["name"]]) > 1 else ""
            yield f"{row['name']} of {row['stage']}{by}", f"{row['value']:.4g}"

    def _precision(self, context: StageContext) -> str:
        from lmgraft.devices import resolve_precision

        return resolve_precision(self._config.precision.value, context.device)

    def _check_prompts(self, model: Artifact) -> None:
        """A prompt that does not fit is found before hours of scoring."""
        from lmgraft.artifacts import tokenizer as tokenizers
        from lmgraft.loading import architecture_for

        tokenizer = tokenizers.load(model.path)
        context = architecture_for(model.path).context()
        sample = self._config.sample
        asked = [
            (f"sample.prompts: prompt {number}", "the token that begins it", prompt_ids(tokenizer, prompt))
            for number, prompt in enumerate(sample.prompts, 1)
        ]
        asked += [
            (f"sample.chat: question {number}", "its chat template around it", ids)
            for number, question in enumerate(sample.chat, 1)
            if (ids := chat_ids(tokenizer, question)) is not None
        ]
        problems = [
            Problem(
                f"{name} is {len(ids)} tokens long with {more}",
                f"the context of {model.stage}'s model is {context} tokens, and its answer needs room too",
                "shorten the prompt",
            )
            for name, more, ids in asked
            if len(ids) >= context
        ]
        if problems:
            raise UserError(problems)

    def _ask(self, context: StageContext, model: Artifact) -> None:
        """Launches the model for the questions that are still open, if there are any."""
        folder = _folder(context, model)
        folder.mkdir(parents=True, exist_ok=True)
        open_questions = [name for name in self._config.evaluators if not score_file(folder, name).exists()]
        sampled = (folder / SAMPLES).exists()
        if not open_questions and sampled:
            return
        evaluators = {name: context.component(f"evaluators.{name}") for name in open_questions}
        questions = Questions(
            stage=model.stage,
            model=model.path,
            corpora=_corpora(context),
            evaluators=evaluators,
            sample=None if sampled else self._config.sample,
            limit=self._config.limit,
            device=context.device,
            precision=self._precision(context),
            seed=context.seed,
            out=folder,
        )
        total = self._documents(_corpora(context), [config for _, config in evaluators.values()])
        with (
            context.progress(f"asking {model.stage}", total, "documents") as bar,
            Follower(context, folder, bar, folder),
        ):
            context.part("parallelism").launch(questions)

    def _documents(self, corpora: list[Path], configs: list[ComponentConfig]) -> int | None:
        """How many documents the evaluators will read, as far as one can tell: for the bar only."""
        from lmgraft.artifacts import corpus

        total = 0
        for config in configs:
            needs = frozenset(need.removeprefix("columns:") for need in config.needs() if need.startswith("columns:"))
            paths = [path for path in holding(corpora, needs) if "validation" in corpus.splits(path)] if needs else []
            held_out = sum(corpus.count(path, "validation") for path in paths)
            total += held_out if self._config.limit is None else min(held_out, self._config.limit)
        return total or None

    def _scores(self, context: StageContext, model: Artifact) -> Iterator[ScoreRow]:
        for name in self._config.evaluators:
            yield from read(score_file(_folder(context, model), name))

    def _look_up(self, context: StageContext, samples: list[SampleRow]) -> list[SampleRow]:
        from lmgraft.artifacts.corpus import texts

        corpora = _corpora(context)
        if not corpora or not samples:
            return samples
        with context.progress("looking samples up in the training text", len(samples), "samples") as progress:
            training = TrainingText(text for path in corpora for text in texts(path, "train"))
            found = []
            for sample in samples:
                context.alive()
                found.append(SampleRow(**{**sample, "longest_copy": training.longest_copy(sample["text"])}))
                progress.advance()
        return found


def _folder(context: StageContext, model: Artifact) -> Path:
    return context.work / model.stage


def _corpora(context: StageContext) -> list[Path]:
    return [given.path for given in context.inputs.get("corpus") or ()]
