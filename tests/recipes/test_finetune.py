"""The recipe ``finetune`` in the small: somebody's model in, a tuned one with its card out, its frozen weights kept."""

from __future__ import annotations

import json

import pytest
import torch
from lmgraft import api, compose, recipe
from lmgraft.artifacts import checkpoint
from lmgraft.errors import UserError
from lmgraft.testing.models import write_llama

SMALL = [
    "device=cpu", "precision=float32", "chats.sources.drills.count=80", "chats.validation_bytes=400", "chats.workers=1",
    "pairs.sources.drills.count=40", "pairs.validation_bytes=600", "pairs.workers=1", "tune.steps=6", "tune.batch=2",
    "tune.seq_len=64", "tune.validate_every=0", "tune.adapter.targets=[query,value]", "evaluate.limit=4",
    "evaluate.sample.max_new_tokens=4", "evaluate.sample.chat=[two?]",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> api.Run:
    folder = tmp_path_factory.mktemp("finetune")
    write_llama(folder / "model", layers=2, hidden=32)
    places = [f"model.path={folder / 'model'}", f"run.dir={folder / 'run'}", f"store.dir={folder / 'store'}"]
    return api.run("finetune", [*SMALL, *places], quiet=True)


def test_only_what_is_adapted_changes(run: api.Run) -> None:
    before, after = (checkpoint.tensors(run.artifacts[name]) for name in ("start", "tune"))
    assert set(before) == set(after)
    changed = {name.rpartition("self_attn.")[2] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"q_proj.weight", "v_proj.weight"}


def test_it_learns_and_is_scored_beside_the_original(run: api.Run) -> None:
    losses = [row["loss"] for row in run.metrics("tune") if "loss" in row and "step" in row]
    assert losses[-1] < losses[0]
    models = {score["stage"] for score in run.scores}
    assert {"start", "tune"} <= models


def test_it_leaves_with_a_card(run: api.Run) -> None:
    out = run.artifacts["export"]
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "finetune" in card
    assert json.loads((out / "config.json").read_text())["model_type"] == "llama"
    assert checkpoint.parameters(out) == checkpoint.parameters(run.artifacts["start"])


def test_a_model_must_be_named() -> None:
    with pytest.raises(UserError) as caught:
        recipe.read(compose.compose(compose.resolve("finetune"), []), "finetune")
    assert "model.path" in str(caught.value)
