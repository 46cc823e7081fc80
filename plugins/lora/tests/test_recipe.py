"""A recipe that pretrains a small model, adapts it and measures it, by the command; and one that is killed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[3] / "tests"))

from tiny_recipe import RECIPE, digests, rows_of, write_recipe
from warm_cli import wait_for

pytestmark = pytest.mark.slow

TUNED = """\
  - stage@tuned: train
  - adapter@tuned.adapter: lora/int8
  - objective@tuned.objective: causal_lm
  - optimizer@tuned.optimizer: adamw
  - schedule@tuned.schedule: cosine
  - parallelism@tuned.parallelism: single
  - _self_
"""
SETTINGS = """\
tuned:
  model: pretrain
  steps: 40
  batch: 2
  seq_len: 32
  checkpoint_every: 2
  optimizer: {lr: 5e-3}
  adapter: {rank: 4, dropout: 0.1}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = RECIPE.replace("  - _self_\n", TUNED).replace("pretrain, evaluate]", "pretrain, tuned, evaluate]")
    text = text.replace("evaluate:\n", f"{SETTINGS}evaluate:\n  models: [tuned]\n")
    return write_recipe(tmp_path_factory.mktemp("recipe"), text)


def model_of(folder: Path, stage: str = "tuned") -> Path:
    return folder / "run" / "stages" / stage / "model.safetensors"


def arguments(recipe: Path, folder: Path) -> list[Any]:
    return ["run", recipe, f"store.dir={folder / 'store'}", f"run.dir={folder / 'run'}", "-q"]


@pytest.fixture(scope="module")
def whole(recipe: Path, cli: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("whole")
    cli(arguments(recipe, folder), recipe.parent).check()
    return folder


def test_a_plain_model_comes_out(whole: Path) -> None:
    assert len(tuned(whole)) == 40
    before, after = (load_file(model_of(whole, stage)) for stage in ("pretrain", "tuned"))
    assert before.keys() == after.keys()
    kept = {name for name in before if torch.equal(before[name], after[name])}
    assert kept == {name for name in before if "_proj" not in name}


def test_killed_it_goes_on_to_the_same_model(whole: Path, recipe: Path, cli: Any, tmp_path: Path) -> None:
    command = cli.start(arguments(recipe, tmp_path), recipe.parent)
    wait_for(lambda: len(tuned(tmp_path)) > 12, command)
    command.kill()
    assert command.finish().code == -9
    assert len(tuned(tmp_path)) < 40
    assert not model_of(tmp_path).exists()
    cli(arguments(recipe, tmp_path), recipe.parent).check()
    assert digests(tmp_path / "run") == digests(whole / "run")


def tuned(folder: Path) -> list[float]:
    """The losses of the adapted stage so far."""
    if not (folder / "run" / "metrics.jsonl").exists():
        return []
    return [row["loss"] for row in rows_of(folder / "run") if row.get("stage") == "tuned" and "loss" in row]
