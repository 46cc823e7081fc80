"""Filter ``quality_classifier``: keeps what a classifier, fitted to labelled rows in the recipe, finds good."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lmgraft.errors import Problem, UserError
from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import KEEP, Verdict

from lmgraft_classifiers import saved
from lmgraft_classifiers.labelled import Measured, named, read, scored, threshold_for
from lmgraft_classifiers.model import Model, fitted, opened
from lmgraft_classifiers.plugin import Features, QualityConfig
from lmgraft_classifiers.said import said

__all__ = ["Quality"]

KEY = "quality_classifier"


class Quality:
    """Row-wise, of texts, chats and pairs (all that is said in them). Reason ``low_quality``.

    phi-1's way (Gunasekar et al. 2023, arXiv:2306.11644, section 2.1): a few rows are labelled, here by whoever makes
    the file, there by GPT-4 for educational value; features of the text (there the output embedding of a CodeGen
    model, ``features: embedding``); a classifier on them (there a random forest, ``classifier: forest``); documents
    below a threshold are dropped. FineWeb-Edu (Penedo et al. 2024, arXiv:2406.17557) differs in labels of 0 to 5, kept
    from 3 on (``min_score: 3``), and in regression on embeddings.

    A tenth of the rows is held out: precision and recall on it lie in ``fit.json`` beside the arrays, and the threshold
    for a wanted ``precision`` is chosen there. Not done: the labelling itself; the regression of a score; calibration;
    the paper's prompt and its embedding of code by file.
    """

    def __init__(self, config: QualityConfig) -> None:
        self.config = config
        self._model: Model | None = None
        self._threshold = config.threshold

    def inputs(self) -> Mapping[str, str]:
        """The labelled rows, and the folder of the model where there is one."""
        config = self.config
        paths = {"labelled": config.labelled}
        if config.features is Features.embedding:
            paths["embedding"] = config.embedding
        return {role: path for role, path in paths.items() if path}

    def fit(self, inputs: Mapping[str, Iterator[Mapping[str, Any]]], workdir: Path) -> None:
        """Fits the classifier and writes ``model.safetensors`` and ``fit.json``, or loads them.

        Raises :class:`UserError` where the rows are none to learn from.
        """
        if (found := saved.load(workdir)) is None:
            model, report = self._fitted(inputs["labelled"])
            saved.save(workdir, model.arrays(), report)
            found = model.arrays(), report
        arrays, report = found
        self._model, self._threshold = opened(self.config, arrays), report["held_out"]["threshold"]

    def judge(self, batch: Sequence[Document]) -> list[Verdict]:
        if self._model is None:
            raise UserError(Problem(f"{KEY} has learnt nothing yet", "fit comes before judge", "call fit first"))
        scores = self._model.scores([said(document)[: self.config.max_chars] for document in batch])
        return [KEEP if score >= self._threshold else Verdict.drop("low_quality") for score in scores.tolist()]

    def _fitted(self, rows: Iterator[Mapping[str, Any]]) -> tuple[Model, dict[str, Any]]:
        config = self.config
        is_good = named(config.good) if config.min_score is None else scored(config.min_score)
        columns = (config.text, config.label)
        labelled = read(rows, str(config.labelled), KEY, columns, is_good, config.seed, config.max_chars)
        model = fitted(config, *labelled.part(held_out=False))
        texts, good = labelled.part(held_out=True)
        scores, threshold = model.scores(texts), config.threshold
        if config.precision is not None:
            threshold = threshold_for(scores, good, config.precision, KEY)
        return model, {"rows": len(labelled.texts), "held_out": asdict(Measured.of(scores, good, threshold))}
