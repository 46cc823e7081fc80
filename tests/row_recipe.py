"""A recipe with chats and preference pairs: tuned on, scored for a reference, asked. Some rows are too long."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiny_recipe import RECIPE

__all__ = ["LONG", "SIZE", "encoded_recipe", "recipe", "write_rows"]

MORE = """\
  - stage@chats: corpus
  - data_source@chats.sources: [files]
  - stage@sft: train
  - architecture@sft.architecture: llama
  - objective@sft.objective: sft
  - optimizer@sft.optimizer: adamw
  - schedule@sft.schedule: cosine
  - stage@pairs: corpus
  - data_source@pairs.sources: [files]
  - stage@reference: score
  - objective@reference.objective: dpo
  - stage@dpo: train
  - architecture@dpo.architecture: llama
  - objective@dpo.objective: dpo
  - optimizer@dpo.optimizer: adamw
  - schedule@dpo.schedule: cosine
  - _self_
stages: [corpus, tokenizer, tokens, pretrain, chats, sft, pairs, reference, dpo, evaluate]
"""
SETTINGS = """\
chats: {workers: 1, validation_bytes: 200, sources: {files: {path: chats.jsonl, rows: messages}}}
sft: &tuning
  data: chats
  model: pretrain
  steps: 3
  batch: 4
  seq_len: 96
  optimizer: {lr: 1e-3}
  architecture: {hidden: 32, layers: 2, heads: 2, kv_heads: 2, mlp: 64, context: 96}
pairs: {workers: 1, validation_bytes: 200, sources: {files: {path: pairs.jsonl, rows: pairs}}}
reference: {data: pairs, model: sft}
dpo:
  <<: *tuning
  data: pairs
  model: sft
  reference: reference
"""
SIZE = 40
LONG = 2
"""Rows among them that are too long for the context."""


def recipe() -> str:
    text = RECIPE.replace("  - _self_\nstages: [corpus, tokenizer, tokens, pretrain, evaluate]\n", MORE)
    text = text.replace("context: 32}", "context: 96}").replace("evaluate:\n  limit", f"{SETTINGS}evaluate:\n  limit")
    models = "  models: [pretrain, sft, dpo]\n  corpus: [pairs, corpus]\n"
    text = text.replace("  limit: 4\n", f"  limit: 4\n{models}").replace("prompts: [ab],", "prompts: [ab], chat: [hm],")
    assert text.count("context: 96}") == 2
    return text


def write_rows(folder: Path) -> None:
    chats: list[dict[str, Any]] = []
    pairs = []
    for n in range(SIZE):
        question = f"{n} ?" if n >= LONG else f"{n} " * 200
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": f"{n % 7} it is"}]
        chats.append({"messages": turns})
        pairs.append({"prompt": question, "chosen": f"{n % 7}", "rejected": f"not {n % 5}, no"})
    for name, rows in (("chats", chats), ("pairs", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def encoded_recipe() -> str:
    """The same with rows that tokens stages encode once: the chats by ``chat_rows``, the pairs by ``pair_rows``."""
    more = """\
  - stage@chat_rows: tokens
  - objective@chat_rows.objective: sft
  - stage@pair_rows: tokens
  - objective@pair_rows.objective: dpo
  - _self_
"""
    text = recipe().replace("  - _self_\n", more)
    text = text.replace("chats, sft, pairs,", "chats, chat_rows, sft, pairs, pair_rows,")
    text = text.replace("  data: chats\n", "  data: chat_rows\n").replace("  data: pairs\n", "  data: pair_rows\n")
    text = text.replace("reference: {data: pairs,", "reference: {data: pair_rows,")
    return text + "chat_rows: {corpus: chats}\npair_rows: {corpus: pairs, tokenizer: sft}\n"
