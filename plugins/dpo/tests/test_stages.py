"""Through the real runner: a reference is scored once, tuning starts at ln 2, and what does not fit is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from tiny_recipe import RECIPE, rows_of, statuses, write_recipe
from warm_cli import Done, WarmCli

STAGES = """\
  - stage@pairs: corpus
  - data_source@pairs.sources: [files]
  - stage@reference: score
  - objective@reference.objective: dpo
  - stage@dpo: train
  - architecture@dpo.architecture: llama
  - objective@dpo.objective: dpo
  - optimizer@dpo.optimizer: adamw
  - schedule@dpo.schedule: cosine
  - stage@vocabulary: tokenizer
  - tokenizer@vocabulary.tokenizer: byte_bpe
  - stage@packed: tokens
  - stage@stranger: train
  - architecture@stranger.architecture: llama
  - objective@stranger.objective: causal_lm
  - optimizer@stranger.optimizer: adamw
  - schedule@stranger.schedule: cosine
  - initializer@stranger.initializer: normal
  - _self_
stages: [corpus, tokenizer, tokens, pretrain, pairs, reference, dpo]
"""
SHAPE = "{hidden: 32, layers: 2, heads: 2, kv_heads: 2, mlp: 64, context: 96}"
SETTINGS = f"""\
pairs: {{workers: 1, validation_bytes: 200, sources: {{files: {{path: pairs.jsonl, rows: pairs}}}}}}
reference: {{data: pairs, model: pretrain}}
dpo:
  data: pairs
  model: pretrain
  reference: reference
  steps: 25
  batch: 8
  seq_len: 96
  optimizer: {{lr: 5e-3, weight_decay: 0.0}}
  architecture: {SHAPE}
vocabulary: {{tokenizer: {{vocab_size: 280}}}}
packed: {{tokenizer: vocabulary}}
stranger: {{data: packed, steps: 1, batch: 1, seq_len: 32, architecture: {SHAPE}}}
"""
STRANGER = "stages=[corpus,tokenizer,tokens,pretrain,vocabulary,packed,stranger,pairs,reference,dpo]"


def recipe() -> str:
    text = RECIPE.replace("  - _self_\nstages: [corpus, tokenizer, tokens, pretrain, evaluate]\n", STAGES)
    for line in ("  - stage@evaluate: evaluate\n", "  - evaluator@evaluate.evaluators: [perplexity]\n",
                 "  - parallelism@evaluate.parallelism: single\n"):  # fmt: skip
        text = text.replace(line, "")
    return text[: text.index("evaluate:\n")].replace("context: 32}", "context: 96}") + SETTINGS


def pairs(count: int = 24) -> list[dict[str, str]]:
    """The chosen answer agrees, the rejected one does not; neither is always the longer one."""
    return [
        {
            "prompt": f"Is {n} a number?",
            "chosen": "yes " * (1 + n % 3) + str(n),
            "rejected": "no " * (1 + (n // 2) % 3) + str(n),
        }
        for n in range(count)
    ]


def write(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def folder(cli: WarmCli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pairs")
    write_recipe(place, recipe())
    write(place / "pairs.jsonl", pairs())
    run(cli, place, "run").check()
    return place


def run(cli: WarmCli, place: Path, name: str, *overrides: str) -> Done:
    return cli(["run", "tiny.yaml", "store.dir=store", f"run.dir={name}", *overrides], place)


def tuning(place: Path) -> list[dict[str, Any]]:
    return [row for row in rows_of(place) if row["stage"] == "dpo" and "loss" in row]


def test_tuning_starts_at_ln_2_and_learns_what_is_preferred(folder: Path) -> None:
    rows = tuning(folder / "run")
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert rows[0]["margin"] == pytest.approx(0, abs=1e-5)
    assert rows[-1]["loss"] < 0.3
    assert rows[-1]["accuracy"] == 1.0
    assert rows[-1]["margin"] == pytest.approx(rows[-1]["reward_chosen"] - rows[-1]["reward_rejected"], abs=1e-5)
    held_out = [row for row in rows_of(folder / "run") if row["stage"] == "dpo" and "val_loss" in row]
    assert held_out[0]["val_loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert held_out[-1]["val_accuracy"] == 1.0


@pytest.mark.parametrize(
    ("settings", "first"),
    [
        # A share of labels taken for wrong changes no first loss: both sides are ln 2.
        (["dpo.objective.label_smoothing=0.2"], math.log(2)),
        (["dpo.objective.loss=ipo", "dpo.objective.beta=0.25"], (1 / (2 * 0.25)) ** 2),
    ],
    ids=["label smoothing", "ipo"],
)
def test_other_losses_start_where_they_must_and_score_nothing_anew(
    settings: list[str], first: float, cli: WarmCli, folder: Path, tmp_path: Path
) -> None:
    run(cli, folder, str(tmp_path / "run"), *settings).check()
    rows = tuning(tmp_path / "run")
    assert rows[0]["loss"] == pytest.approx(first, rel=1e-5)
    assert rows[-1]["loss"] < 0.8 * first
    found = statuses(tmp_path / "run")
    assert [name for name, status in found.items() if status == "ran"] == ["dpo"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": "Well?", "chosen": "Yes.", "rejected": "Yes."}, "chosen and rejected are the same"),
        ({"prompt": "Well?", "chosen": "Yes.", "rejected": " "}, "has no rejected"),
        ({"prompt": "Well?", "chosen": "", "rejected": "No."}, "has no chosen"),
    ],
)
def test_pairs_that_prefer_nothing_are_refused_before_anything_is_scored(
    row: dict[str, str], says: str, cli: WarmCli, folder: Path, tmp_path: Path
) -> None:
    write(tmp_path / "pairs.jsonl", [*pairs(), row])
    place = f"pairs.sources.files.path={tmp_path / 'pairs.jsonl'}"
    said = run(cli, folder, str(tmp_path / "run"), place, "pairs.validation_bytes=0").problem()
    assert f"pairs.jsonl:24': {says}" in said or f"pairs.jsonl:24' {says}" in said
    assert statuses(tmp_path / "run")["reference"] == "failed"
    assert "dpo" not in statuses(tmp_path / "run")


def test_a_reference_of_another_tokenizer_is_refused(cli: WarmCli, folder: Path, tmp_path: Path) -> None:
    done = run(cli, folder, str(tmp_path / "run"), STRANGER, "reference.model=stranger")
    said = done.problem()
    assert "stage dpo: reference=reference does not fit" in said
    assert "tokenizer" in said
    assert statuses(tmp_path / "run")["dpo"] == "failed"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("dpo.objective.beta=0", "beta is 0.0; it must be above 0"),
        ("dpo.objective.template=sola", "template is 'sola'"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_runs(
    override: str, says: str, cli: WarmCli, folder: Path, tmp_path: Path
) -> None:
    assert says in run(cli, folder, str(tmp_path / "run"), override).problem()
    assert not (tmp_path / "run").exists()
