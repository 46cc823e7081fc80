"""On real pairs, through the real stages: tuned on people's choices between answers, a small model tells held-out pairs
apart better than by length.

The pairs are those of HH-RLHF's harmless test set in ``LMGRAFT_TEST_DATA``; conversations that begin alike are held
out together. The settings were fixed on pairs held out of the training side, with two other seeds, before these ones
were looked at. Pairs are few and people's choices noisy: a bag of words fitted to the training side gets 0.61 of it
right in cross-validation, so no more than that is to be expected.
"""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest
from tiny_recipe import rows_of, run_json
from warm_cli import WarmCli

pytestmark = pytest.mark.slow

ANSWER = "\n\nAssistant:"
TEXTS = ("c4_demo", "fortunes_en", "stack_exchange_sample")
SHAPE = "{hidden: 128, layers: 2, heads: 2, kv_heads: 2, mlp: 256, context: 768}"
RECIPE = f"""\
# Purpose: preference tuning on real pairs.
# Hardware: one processor core.
# Minutes: 3
# Expect: held-out pairs are told apart better than by length.
defaults:
  - base
  - stage@corpus: corpus
  - data_source@corpus.sources: [files]
  - stage@tokenizer: tokenizer
  - tokenizer@tokenizer.tokenizer: byte_bpe
  - stage@tokens: tokens
  - stage@pretrain: train
  - architecture@pretrain.architecture: llama
  - objective@pretrain.objective: causal_lm
  - optimizer@pretrain.optimizer: adamw
  - schedule@pretrain.schedule: cosine
  - initializer@pretrain.initializer: normal
  - stage@pairs: corpus
  - data_source@pairs.sources: [files]
  - stage@reference: score
  - objective@reference.objective: dpo
  - stage@dpo: train
  - architecture@dpo.architecture: llama
  - objective@dpo.objective: dpo
  - optimizer@dpo.optimizer: adamw
  - schedule@dpo.schedule: cosine
  - stage@evaluate: evaluate
  - evaluator@evaluate.evaluators: [preference]
  - _self_
stages: [corpus, tokenizer, tokens, pretrain, pairs, reference, dpo, evaluate]
device: cpu
precision: float32
corpus: {{workers: 1, sources: {{files: {{path: texts}}}}}}
tokenizer: {{tokenizer: {{vocab_size: 2048}}}}
tokens: {{workers: 1}}
pretrain: {{steps: 600, batch: 16, seq_len: 128, optimizer: {{lr: 3e-3}}, architecture: {SHAPE}}}
pairs:
  workers: 1
  validation_bytes: 350000
  sources: {{files: {{path: pairs.jsonl, rows: hh, group: topic}}}}
reference: {{data: pairs, model: pretrain, micro_batch: 8}}
dpo:
  data: pairs
  model: pretrain
  reference: reference
  steps: 90
  batch: 16
  micro_batch: 8
  seq_len: 768
  validation_tokens: 10000000
  architecture: {SHAPE}
  objective: {{beta: 0.02}}
  optimizer: {{lr: 5e-4, weight_decay: 0.1}}
evaluate: {{models: [pretrain, dpo], corpus: [pairs]}}
"""


def pairs(data: Path) -> list[dict[str, str]]:
    """The file's pairs without those that prefer nothing, each with its conversation's first words."""
    found = []
    with gzip.open(data / "preference/hh_harmless_base_test.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            (before, chosen), (other, rejected) = ((*_cut(row[side]),) for side in ("chosen", "rejected"))
            if before == other and chosen and rejected and chosen != rejected:
                found.append({**row, "topic": before.partition(ANSWER)[0]})
    return found


def _cut(transcript: str) -> tuple[str, str]:
    before, _, answer = transcript.rpartition(ANSWER)
    return before, answer.strip()


def lower_bound(share: float, count: int) -> float:
    """Wilson 1927, 95%."""
    z = 1.959964
    middle = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (middle - spread) / (1 + z * z / count)


@pytest.fixture(scope="module")
def run(cli: WarmCli, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    (folder / "real.yaml").write_text(RECIPE)
    (folder / "texts").mkdir()
    for name in TEXTS:
        (folder / "texts" / f"{name}.jsonl.gz").symlink_to(data / "corpus" / f"{name}.jsonl.gz")
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs(data)))
    cli(["run", "real.yaml", "store.dir=store", "run.dir=run"], folder, seconds=900).check()
    return folder / "run"


def scores(run: Path) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["stage"], row["name"]): row for row in run_json(run)["scores"]}


def test_the_tuned_model_tells_held_out_pairs_apart_better_than_length_does(run: Path) -> None:
    found = scores(run)
    ours, rule = found["dpo", "preference_accuracy"], found["dpo", "length_accuracy"]
    detail = ours["detail"]
    print(f"{ours['value']:.4f} {detail['interval_95']} of {detail['pairs']} pairs; by length {rule['value']:.4f}")
    assert detail["pairs"] > 400
    assert detail["sha256"] == rule["detail"]["sha256"]
    assert ours["value"] > rule["value"] >= 0.5
    assert detail["interval_95"][0] > 0.5


def test_its_implicit_reward_does_too(run: Path) -> None:
    """Against its reference, of which it knew nothing at the start: what tuning alone has taught."""
    held_out = [row for row in rows_of(run) if row["stage"] == "dpo" and "val_accuracy" in row]
    count = scores(run)["dpo", "preference_accuracy"]["detail"]["pairs"]
    first, last = held_out[0], held_out[-1]
    print(f"{last['val_accuracy']:.4f} of {count} pairs, from {first['val_accuracy']:.4f}")
    assert first["val_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert last["val_loss"] < first["val_loss"]
    assert lower_bound(last["val_accuracy"], count) > 0.5
    assert last["val_accuracy"] > scores(run)["dpo", "length_accuracy"]["value"]
