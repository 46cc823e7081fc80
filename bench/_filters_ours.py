"""What lmgraft's four filters say of documents, and how long they take in one process: ``bare IN OUT``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmgraft.component import ComponentConfig
from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import RowFilter, Verdict
from lmgraft.stages._corpus_tally import Tally, sift
from lmgraft_web_rules.c4 import C4
from lmgraft_web_rules.fineweb import Fineweb
from lmgraft_web_rules.gopher_quality import GopherQuality
from lmgraft_web_rules.gopher_repetition import GopherRepetition
from lmgraft_web_rules.plugin import (
    C4Config,
    FinewebConfig,
    GopherQualityConfig,
    GopherRepetitionConfig,
    WordSplitter,
)

__all__ = ["labels", "read"]

#: In FineWeb's order.
FOUR: dict[str, tuple[Any, Any]] = {
    "gopher_repetition": (GopherRepetition, GopherRepetitionConfig),
    "gopher_quality": (GopherQuality, GopherQualityConfig),
    "c4": (C4, C4Config),
    "fineweb": (Fineweb, FinewebConfig),
}
#: The settings that are rules; everything else stays as it is where one rule is looked at by itself.
RULES = {
    "gopher_repetition": ("max_dup_paragraphs", "max_dup_paragraph_chars", "max_dup_lines", "max_dup_line_chars"),
    "gopher_quality": (
        "min_words", "max_words", "min_mean_word_length", "max_mean_word_length", "max_symbol_ratio",
        "max_bullet_lines", "max_ellipsis_lines", "min_alpha_words", "min_stop_words",
    ),
    "c4": ("min_sentences", "lorem_ipsum", "curly_bracket"),
    "fineweb": ("min_line_punctuation", "max_short_lines", "max_dup_line_chars", "max_newlines"),
}  # fmt: skip
BATCH = 512


def read(folder: Path) -> list[dict[str, str]]:
    """The rows of a folder's JSON Lines."""
    return [json.loads(line) for file in sorted(folder.glob("*.jsonl")) for line in file.read_bytes().splitlines()]


def labels(rows: Sequence[Mapping[str, str]], words: str) -> list[dict[str, Any]]:
    """As :func:`bench._filters_datatrove.labels`, with the given splitter."""
    shown = [Document(id=row["id"], text=row["text"]) for row in rows]
    four = {name: kind(config(words=WordSplitter(words))) for name, (kind, config) in FOUR.items()}
    rules = _alone(words)
    answers: list[dict[str, Any]] = []
    for start in range(0, len(shown), BATCH):  # every rule on one batch before the next: its words are found once
        batch = shown[start : start + BATCH]
        whole = {name: judge.judge(batch) for name, judge in four.items()}
        alone = [judge.judge(batch) for judge in rules]
        answers += [_answer(row, document, whole, alone) for row, document in enumerate(batch)]
    return answers


def _answer(
    row: int, document: Document, whole: Mapping[str, Sequence[Verdict]], alone: Sequence[Sequence[Verdict]]
) -> dict[str, Any]:
    reasons = {name: "" if verdicts[row].keep else verdicts[row].reason for name, verdicts in whole.items()}
    c4 = whole["c4"][row]
    fired = {verdicts[row].reason for verdicts in alone if not verdicts[row].keep}
    return {
        "id": document.id,
        "reasons": reasons,
        "c4": document.text if c4.text is None else c4.text,
        "lines": {name: count for name, count in c4.counts.items() if name != "citation"},
        "fired": sorted(fired),
    }


def _alone(words: str) -> list[RowFilter]:
    """Each rule by itself: the others off."""
    found: list[RowFilter] = []
    for name, (kind, config) in FOUR.items():
        whole = config(words=WordSplitter(words))
        grams = [field for field in ("top_n_grams", "dup_n_grams") if hasattr(whole, field)]
        off = {rule: False if getattr(whole, rule) is True else None for rule in RULES[name]}
        off |= {field: {} for field in grams}
        rules = [(rule, getattr(whole, rule)) for rule in RULES[name]]
        rules += [(field, {n: limit}) for field in grams for n, limit in getattr(whole, field).items()]
        found += [kind(_changed(whole, {**off, rule: value})) for rule, value in rules]
    return found


def _changed(config: ComponentConfig, values: Mapping[str, Any]) -> ComponentConfig:
    return type(config)(**{**vars(config), **values})


def bare(rows: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """Seconds of the four one after another, each seeing what the one before kept, as the corpus stage calls them."""
    judges: list[tuple[str, RowFilter]] = [(name, kind(config())) for name, (kind, config) in FOUR.items()]
    shown = [Document(id=row["id"], text=row["text"]) for row in rows]
    started, cpu = time.perf_counter(), time.process_time()
    tallies = {name: Tally(name) for name in FOUR}
    parts = (shown[start : start + BATCH] for start in range(0, len(shown), BATCH))
    kept = sum(len(sift(part, judges, tallies).documents) for part in parts)
    return {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu, "kept": kept}


if __name__ == "__main__":
    Path(sys.argv[3]).write_text(json.dumps(bare(read(Path(sys.argv[2])))), encoding="utf-8")
