"""Filter ``toxicity``: drops toxic documents, by words, by a classifier fitted to labelled rows, or by a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lmgraft.errors import Problem, UserError
from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import KEEP, Verdict

from lmgraft_classifiers.english import WORDS
from lmgraft_classifiers.plugin import Method, ToxicityConfig
from lmgraft_classifiers.said import said
from lmgraft_classifiers.words import WordList, listed

__all__ = ["Toxicity"]

KEY = "toxicity"
#: Features that n-grams are hashed to.
WIDTH = 1 << 18
#: Characters of a text that a classifier looks at, its first.
MAX_CHARS = 20_000


class Toxicity:
    """Row-wise, of texts, chats and pairs (all that is said in them). What is toxic is dropped.

    - ``words`` (reason ``toxic_words``, count ``hits``): words of a list, at least ``min_hits`` and at least
      ``min_share`` of all words. C4 (Raffel et al. 2020, arXiv:1910.10683, section 2.2) drops a page for one word
      (``min_share: 0``), and loses much that is harmless by it (Dodge et al. 2021, arXiv:2104.08758). Disguises that
      are seen through: digits and signs for letters, letters repeated or set apart by blanks, dots, stars, hyphens or
      underscores, and letters behind stars.
    - ``classifier`` (reason ``toxic``): logistic regression on hashed n-grams of words (1 and 2) and characters (3 to
      5), tf-idf (see :mod:`lmgraft_classifiers.hashing` and :mod:`lmgraft_classifiers.linear`), fitted to labelled
      rows, of which a tenth is held out to measure it and to choose the threshold for a wanted ``precision``.
    - ``detoxify`` (reason ``toxic``): a model that classifies sequences, such as Detoxify's (Hanu and Unitary 2020,
      github.com/unitaryai/detoxify) in transformers' form. Its checkpoints for torch are pickles, which may run
      anything and are not read.

    Not done: toxic spans are not cut out; no translation, no context beyond n-grams for the first two, no identities
    whose mention classifiers are known to hold against a text are treated apart.
    """

    def __init__(self, config: ToxicityConfig) -> None:
        self.config = config
        self._list: WordList | None = None
        self._score: Callable[[Sequence[str]], Sequence[float]] | None = None
        self._threshold = config.threshold

    def inputs(self) -> Mapping[str, str]:
        """The list, the labelled rows or the model's folder: what the method reads."""
        method, config = self.config.method, self.config
        paths = {Method.words: config.words, Method.classifier: config.labelled, Method.detoxify: config.checkpoint}
        role = {Method.words: "words", Method.classifier: "labelled", Method.detoxify: "checkpoint"}[method]
        return {role: path} if (path := paths[method]) else {}

    def fit(self, inputs: Mapping[str, Iterator[Mapping[str, Any]]], workdir: Path) -> None:
        """Reads the list, fits the classifier, or opens the model.

        ``workdir`` holds the list as ``words.txt``, or the classifier as ``model.safetensors`` with its figures in
        ``fit.json``. Raises :class:`UserError` where the input is none.
        """
        if self.config.method is Method.words:
            self._list = self._kept_list(workdir)
        elif self.config.method is Method.classifier:
            self._fit_classifier(inputs["labelled"], workdir)
        else:
            from lmgraft_classifiers.pretrained import toxic_scorer

            self._score = toxic_scorer(self.config)

    def judge(self, batch: Sequence[Document]) -> list[Verdict]:
        texts = [said(document) for document in batch]
        if self.config.method is Method.words:
            words = self._list = self._list or WordList(self._words(), self.config.disguised)
            return [self._by_words(*words.found(text)) if text else KEEP for text in texts]
        if self._score is None:
            raise UserError(Problem("toxicity has learnt nothing yet", "fit comes before judge", "call fit first"))
        scores = self._score([text[:MAX_CHARS] for text in texts]) if texts else []
        return [Verdict.drop("toxic") if score >= self._threshold else KEEP for score in scores]

    def _by_words(self, hits: int, words: int) -> Verdict:
        if not hits:
            return KEEP
        if hits >= self.config.min_hits and hits >= self.config.min_share * words:
            return Verdict(keep=False, reason="toxic_words", counts={"hits": hits})
        return Verdict(counts={"hits": hits})

    def _words(self) -> Sequence[str]:
        config = self.config
        if not config.words:
            return WORDS
        return listed(Path(config.words), config.column, config.severity, config.min_severity)

    def _kept_list(self, workdir: Path) -> WordList:
        kept = workdir / "words.txt"
        if not kept.exists():
            unfinished = workdir / "words.part"
            unfinished.write_text("\n".join(self._words()), encoding="utf-8")
            unfinished.replace(kept)
        return WordList(kept.read_text(encoding="utf-8").split("\n"), self.config.disguised)

    def _fit_classifier(self, rows: Iterator[Mapping[str, Any]], workdir: Path) -> None:
        from lmgraft_classifiers import saved
        from lmgraft_classifiers.hashing import counted
        from lmgraft_classifiers.labelled import Measured, named, read, threshold_for
        from lmgraft_classifiers.linear import Linear, fit_hashed

        if (found := saved.load(workdir)) is None:
            config = self.config
            is_toxic = named(config.positive)
            columns = (config.text, config.label)
            labelled = read(rows, str(config.labelled), KEY, columns, is_toxic, config.seed, MAX_CHARS)
            texts, toxic = labelled.part(held_out=False)
            model = fit_hashed(counted(texts, WIDTH), toxic, config.strength, config.balanced)
            texts, toxic = labelled.part(held_out=True)
            scores, threshold = model.scores(counted(texts, WIDTH)), config.threshold
            if config.precision is not None:
                threshold = threshold_for(scores, toxic, config.precision, KEY)
            report: dict[str, Any] = {
                "rows": len(labelled.texts),
                "held_out": asdict(Measured.of(scores, toxic, threshold)),
            }
            saved.save(workdir, model.arrays(), report)
            found = model.arrays(), report
        arrays, report = found
        fitted, self._threshold = Linear.of(arrays), report["held_out"]["threshold"]
        self._score = lambda texts: fitted.scores(counted(texts, WIDTH)).tolist()
