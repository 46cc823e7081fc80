"""Toxicity and quality on labelled rows that nothing was fitted to, beside scikit-learn's usual pipeline.

Every side is fitted to the same rows (ours to nine tenths of them: it holds a tenth out for itself) and judges the same
others; the split is by page, book or post, by hash. The peer is ``TfidfVectorizer`` and ``LogisticRegression`` with
their defaults. Documents a second are of processor time, of this process, in judging. Needs ``LMGRAFT_TEST_DATA``.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lmgraft.seams.data_source import Document
from lmgraft_classifiers.plugin import Algorithm, Features, Method, QualityConfig, ToxicityConfig
from lmgraft_classifiers.quality import Quality
from lmgraft_classifiers.toxicity import Toxicity

from bench._classifiers_rows import Row, data, pages, sentences, sources, tweets

Judge = Callable[[Sequence[str]], list[bool]]
PEER = "scikit-learn: tf-idf, logistic regression"


def run(runs: int) -> tuple[str, dict[str, Any]]:
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bench-classifiers-") as name:
        for task, rows, sides in (
            ("offensive tweets", tweets, _toxicity),
            ("toxic sentences", sentences, _toxicity),
            ("article or page", pages, _quality),
            ("edited or web", sources, _quality),
        ):
            folder = Path(name) / task.replace(" ", "_")
            folder.mkdir()
            result[task] = _task(list(rows()), folder, sides, runs)
            result[task]["rows"] = " ".join((rows.__doc__ or "").split())
    return _table(result), result


def _task(
    rows: list[Row], folder: Path, sides: Callable[[Path, Path], Iterator[tuple[str, Judge]]], runs: int
) -> dict[str, Any]:
    known = [row for row in rows if not row.held_out]
    others = [row for row in rows if row.held_out]
    labelled = folder / "labelled.jsonl"
    with labelled.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": row.text, "label": int(row.wanted)}) + "\n" for row in known)
    found = {name: _measured(judge, others, runs) for name, judge in sides(labelled, folder)}
    found[PEER] = _measured(_peer(known), others, runs)
    return {"fitted": len(known), "held_out": len(others), "wanted": sum(row.wanted for row in others), "sides": found}


def _toxicity(labelled: Path, folder: Path) -> Iterator[tuple[str, Judge]]:
    words = str(data() / "misc/profanity_en.csv")
    for name, config in {
        "toxicity: words, built in": ToxicityConfig(),
        "toxicity: words, a list of 1,598": ToxicityConfig(words=words),
        "toxicity: classifier": ToxicityConfig(method=Method.classifier, labelled=str(labelled)),
        "toxicity: classifier, precision .9": ToxicityConfig(
            method=Method.classifier, labelled=str(labelled), precision=0.9
        ),
    }.items():
        if part := _fitted(Toxicity(config), labelled, folder / name):
            yield name, lambda texts, part=part: [not keep for keep in _kept(part, texts)]


def _quality(labelled: Path, folder: Path) -> Iterator[tuple[str, Judge]]:
    for features in (Features.hashed, Features.statistics):
        for classifier in (Algorithm.logistic, Algorithm.forest):
            name = f"quality_classifier: {features.value}, {classifier.value}"
            config = QualityConfig(labelled=str(labelled), features=features, classifier=classifier)
            if part := _fitted(Quality(config), labelled, folder / name):
                yield name, lambda texts, part=part: _kept(part, texts)


def _fitted(part: Any, labelled: Path, workdir: Path) -> Any:
    """The part after its fit; None, and a word about it, where the wanted precision cannot be had."""
    from lmgraft.errors import UserError

    workdir.mkdir()
    rows = map(json.loads, labelled.open(encoding="utf-8"))
    try:
        part.fit({"labelled": rows}, workdir)
    except UserError as error:
        print(f"{workdir.name}: {error.problems[0].fact}, {error.problems[0].cause}")
        return None
    return part


def _kept(part: Any, texts: Sequence[str]) -> list[bool]:
    batch = [Document(id=str(number), text=text) for number, text in enumerate(texts)]
    return [verdict.keep for verdict in part.judge(batch)]


def _peer(rows: Sequence[Row]) -> Judge:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))
    model.fit([row.text for row in rows], [row.wanted for row in rows])
    return lambda texts: list(model.predict(texts))


def _measured(judge: Judge, rows: Sequence[Row], runs: int) -> dict[str, float]:
    texts = [row.text for row in rows]
    seconds = []
    for _ in range(max(1, runs)):
        started = time.process_time()
        chosen = judge(texts)
        seconds.append(time.process_time() - started)
    right = sum(yes and row.wanted for yes, row in zip(chosen, rows, strict=True))
    wanted = sum(row.wanted for row in rows)
    precision, recall = right / max(sum(chosen), 1), right / wanted
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    return {"precision": precision, "recall": recall, "f1": f1, "per_second": len(texts) / min(seconds)}


def _table(result: dict[str, Any]) -> str:
    lines = []
    for task, found in result.items():
        lines += [f"**{task}**. {found['rows']}", ""]
        rows = f"Fitted to {found['fitted']:,} rows; of {found['held_out']:,} others {found['wanted']:,} are wanted."
        lines += [rows, "", "| side | precision | recall | F1 | documents/s |", "|---|---|---|---|---|"]
        for name, side in found["sides"].items():
            figures = " | ".join(f"{side[key]:.3f}" for key in ("precision", "recall", "f1"))
            lines.append(f"| {name} | {figures} | {side['per_second']:,.0f} |")
        lines.append("")
    return "\n".join(lines).rstrip()
