"""A recipe that mixes two tokens stages while it trains: alone and over two ranks, killed and gone on with, and what is
refused before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_recipe import RECIPE, digests, metrics, rows_of, run_json, write_recipe, write_texts
from warm_cli import WarmCli, wait_for

STEPS, BATCH, SEQ_LEN = 100, 3, 32

OTHER = """\
corpus_other:
  workers: 1
  validation_bytes: 2000
  sources: {files: {path: others, document_bytes: 1024}}
tokens_other: {workers: 1, corpus: corpus_other}
tokenizer:
"""
MIXTURE = f"""\
  steps: {STEPS}
  batch: {BATCH}
  more_data: [tokens_other]
  data_weights: {{tokens: 0.7, tokens_other: 0.3}}
"""
CHANGES = {
    "  - stage@tokenizer: tokenizer\n": "  - stage@corpus_other: corpus\n"
    "  - data_source@corpus_other.sources: [files]\n"
    "  - stage@tokenizer: tokenizer\n",
    "  - stage@tokens: tokens\n": "  - stage@tokens: tokens\n  - stage@tokens_other: tokens\n",
    "stages: [corpus, tokenizer, tokens, pretrain, evaluate]": "stages: [corpus, corpus_other, tokenizer, tokens, "
    "tokens_other, pretrain]",
    "tokenizer:\n  tokenizer": f"{OTHER}  tokenizer",
    "  steps: 12\n  batch: 2\n": MIXTURE,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made, text = tmp_path_factory.mktemp("mixed"), RECIPE
    for before, after in CHANGES.items():
        assert text.count(before) == 1
        text = text.replace(before, after)
    write_recipe(made, text, "mixed.yaml")
    write_texts(made / "others", files=4, seed=1)
    return made


@pytest.fixture(scope="module")
def alone(cli: WarmCli, folder: Path) -> Path:
    """An undisturbed run in one process."""
    done = cli(["run", "mixed.yaml", "store.dir=store", "run.dir=alone"], folder).check()
    (folder / "alone.txt").write_text(done.out + done.err)
    return folder / "alone"


def losses(run: Path) -> list[float]:
    return [row["loss"] for row in rows_of(run) if "loss" in row]


def killed(cli: WarmCli, folder: Path, run: Path, *overrides: str, at: tuple[int, ...]) -> None:
    """A run with a store of its own, killed after each of ``at`` steps and then left to its end."""
    args = ["run", "mixed.yaml", f"store.dir={run}.store", f"run.dir={run}", "-q", *overrides]
    for steps in at:
        command = cli.start(args, folder)
        wait_for(lambda steps=steps: run.exists() and _reached(run) >= steps, command)
        command.kill()
        assert command.finish().code == -9
        assert run_json(run)["stages"]["pretrain"]["status"] == "running"
    cli(args, folder).check()


def _reached(run: Path) -> int:
    file = run / "metrics.jsonl"
    lines = file.read_text(encoding="utf-8").split("\n")[:-1] if file.is_file() else []
    return max((json.loads(line).get("step", 0) for line in lines), default=0)


def test_it_tells_how_often_each_source_is_seen(folder: Path, alone: Path) -> None:
    sources: dict[str, dict[str, Any]] = {row["source"]: row for row in rows_of(alone) if "source" in row}
    counts = {name: row["samples"] for name, row in sources.items()}
    assert list(counts) == ["tokens", "tokens_other"]
    assert counts == {"tokens": 210, "tokens_other": 90}
    told = (folder / "alone.txt").read_text()
    for name, row in sources.items():
        held = json.loads((alone / "stages" / name / "tokens.json").read_text())["splits"]["train"]["tokens"]
        epochs = counts[name] / -(-held // SEQ_LEN)
        assert row["epochs"] == pytest.approx(epochs, abs=1e-4)
        assert f"{name} {row['share']:.1%} of the samples ({epochs:.2f} epochs)" in told


def test_held_out_loss_of_each_source_and_of_all(alone: Path) -> None:
    first, last = (row for row in rows_of(alone) if "val_loss" in row)
    assert (first["step"], last["step"]) == (0, STEPS)
    for row in (first, last):
        for name in ("val_loss", "val_bits_per_byte"):
            low, high = sorted([row[f"{name}_tokens"], row[f"{name}_tokens_other"]])
            assert low < row[name] < high
    held = {
        name: json.loads((alone / "stages" / name / "tokens.json").read_text())["splits"]["validation"]["tokens"]
        for name in ("tokens", "tokens_other")
    }
    by_tokens = sum(last[f"val_loss_{name}"] * count for name, count in held.items()) / sum(held.values())
    assert last["val_loss"] == pytest.approx(by_tokens, rel=1e-9)
    assert last["val_loss_tokens"] < first["val_loss_tokens"]


def test_killed_it_goes_on_with_what_it_would_have_read(
    cli: WarmCli, folder: Path, alone: Path, tmp_path: Path
) -> None:
    killed(cli, folder, tmp_path / "run", at=(5, 31))
    assert metrics(tmp_path / "run") == metrics(alone)
    assert digests(tmp_path / "run") == digests(alone)


@pytest.mark.slow
def test_two_ranks_read_the_same_killed_or_not(cli: WarmCli, folder: Path, alone: Path, tmp_path: Path) -> None:
    layout = ("parallelism@pretrain.parallelism=ddp", "pretrain.parallelism.threads=1")
    cli(["run", "mixed.yaml", "store.dir=two.store", "run.dir=two", *layout], folder).check()
    assert losses(folder / "two") == pytest.approx(losses(alone), rel=1e-4)
    killed(cli, folder, tmp_path / "run", *layout, at=(13,))
    assert metrics(tmp_path / "run") == metrics(folder / "two")
    assert digests(tmp_path / "run") == digests(folder / "two")


@pytest.mark.parametrize(
    ("override", "fact", "cause"),
    [
        ("~pretrain.data_weights.tokens_other", "pretrain.data_weights", "no weight for the source tokens_other"),
        ("+pretrain.data_weights.corpus=1", "pretrain.data_weights", "'corpus', which is not among the sources"),
        ("pretrain.data_weights.tokens=-1", "pretrain.data_weights", "tokens is -1; a weight is a number, 0 or more"),
        ("pretrain.data_weights.tokens=nan", "pretrain.data_weights", "tokens is nan; a weight is a number"),
        ("pretrain.data_weights={tokens: 0, tokens_other: 0}", "pretrain.data_weights", "are all 0"),
        ("pretrain.more_data=[]", "pretrain.data_weights", "more_data names nothing to mix with tokens"),
        ("pretrain.more_data=[tokens_other,tokens]", "pretrain.more_data", "names tokens, which is read already"),
        ("pretrain.data=corpus", "pretrain.data names corpus, which cannot be mixed", "only packed text is mixed"),
        ("pretrain.more_data=[corpus]", "pretrain.more_data", "corpus"),
    ],
)
def test_what_makes_no_mixture_is_refused_before_anything_runs(
    override: str, fact: str, cause: str, cli: WarmCli, folder: Path, tmp_path: Path
) -> None:
    done = cli(
        ["run", "mixed.yaml", f"store.dir={tmp_path / 'store'}", f"run.dir={tmp_path / 'run'}", override], folder
    )
    told = done.problem()
    assert fact in told
    assert cause in told
    assert not (tmp_path / "run").exists()


def test_sources_of_two_tokenizers_are_refused(cli: WarmCli, folder: Path, alone: Path, tmp_path: Path) -> None:
    recipe = (folder / "mixed.yaml").read_text()
    recipe = recipe.replace(
        "  - stage@tokens: tokens\n",
        "  - stage@tokenizer_other: tokenizer\n"
        "  - tokenizer@tokenizer_other.tokenizer: byte_bpe\n"
        "  - stage@tokens: tokens\n",
    )
    recipe = recipe.replace("tokenizer, tokens, tokens_other", "tokenizer, tokenizer_other, tokens, tokens_other")
    recipe = recipe.replace("corpus: corpus_other}", "corpus: corpus_other, tokenizer: tokenizer_other}")
    (folder / "two_tokenizers.yaml").write_text(recipe + "tokenizer_other: {tokenizer: {vocab_size: 290}}\n")
    done = cli(["run", "two_tokenizers.yaml", "store.dir=store", f"run.dir={tmp_path / 'run'}", "-q"], folder)
    assert done.problem().splitlines() == [
        "stage pretrain: tokens and tokens_other are encoded by different tokenizers",
        "  because: what is mixed must have one vocabulary; the same ids stand for different text there",
        "  try: give tokens_other the tokenizer of tokens: tokens_other.tokenizer=STAGE",
    ]
