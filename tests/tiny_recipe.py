"""A recipe with all stages that takes a second: made-up words, 45 thousand parameters, twelve steps."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

__all__ = [
    "RECIPE",
    "STAGES",
    "count_rows",
    "digests",
    "metrics",
    "rows_of",
    "run_json",
    "statuses",
    "write_recipe",
    "write_texts",
]

STAGES = ("corpus", "tokenizer", "tokens", "pretrain", "evaluate")

RECIPE = """\
# Purpose: what the tests run.
# Hardware: any.
# Minutes: 0
# Expect: nothing.
defaults:
  - base
  - stage@corpus: corpus
  - data_source@corpus.sources: [files]
  - filter@corpus.filters: [length, exact_dedup]
  - stage@tokenizer: tokenizer
  - tokenizer@tokenizer.tokenizer: byte_bpe
  - stage@tokens: tokens
  - stage@pretrain: train
  - architecture@pretrain.architecture: llama
  - objective@pretrain.objective: causal_lm
  - optimizer@pretrain.optimizer: adamw
  - schedule@pretrain.schedule: cosine
  - initializer@pretrain.initializer: normal
  - parallelism@pretrain.parallelism: single
  - stage@evaluate: evaluate
  - evaluator@evaluate.evaluators: [perplexity]
  - parallelism@evaluate.parallelism: single
  - _self_
stages: [corpus, tokenizer, tokens, pretrain, evaluate]
device: cpu
precision: float32
data: {path: texts}
corpus:
  workers: 1
  validation_bytes: 3000
  sources: {files: {path: "${data.path}", document_bytes: 1024}}
  filters: {length: {min_chars: 20}}
tokenizer:
  tokenizer: {vocab_size: 300}
tokens: {workers: 1}
pretrain:
  steps: 12
  batch: 2
  seq_len: 32
  checkpoint_every: 2
  optimizer: {lr: 2e-3}
  schedule: {warmup_fraction: 0.0}
  architecture: {hidden: 32, layers: 2, heads: 2, kv_heads: 2, mlp: 64, context: 32}
evaluate:
  limit: 4
  sample: {prompts: [ab], max_new_tokens: 4}
"""


def write_texts(folder: Path, files: int = 6, seed: int = 0) -> Path:
    """``files`` files of about 2.5 kB; no two documents are equal."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 8))) for _ in range(200)]
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        paragraphs = [" ".join(rng.choices(words, k=60)) + "." for _ in range(7)]
        (folder / f"{number}.txt").write_text("\n\n".join(paragraphs) + "\n", encoding="utf-8")
    return folder


def write_recipe(folder: Path, text: str = RECIPE, name: str = "tiny.yaml") -> Path:
    """The recipe and the texts it reads, beside each other in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    if not (folder / "texts").exists():
        write_texts(folder / "texts")
    return folder / name


def run_json(run: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return data


def statuses(run: Path) -> dict[str, str]:
    return {name: stage["status"] for name, stage in run_json(run)["stages"].items()}


def digests(run: Path) -> dict[str, str]:
    return {name: stage["digest"] for name, stage in run_json(run)["stages"].items()}


def rows_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def count_rows(run: Path) -> int:
    """How many rows there are so far."""
    try:
        return len((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    except FileNotFoundError:
        return 0


def metrics(run: Path) -> list[dict[str, Any]]:
    """The rows without what differs from run to run: speed, and the mark of a reused stage."""
    return [
        {key: value for key, value in row.items() if key not in ("tokens_per_second", "data_wait", "reused")}
        for row in rows_of(run)
    ]
