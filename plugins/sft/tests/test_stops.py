"""Through the real runner: a model that was tuned on a handful of chats gives their answers and ends; before, it does
not end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lmgraft import chat
from lmgraft.artifacts import tokenizer
from lmgraft.loading import load
from lmgraft.seams.parallelism import Sampling
from tiny_recipe import RECIPE, rows_of, write_recipe
from warm_cli import WarmCli

ROWS = {
    "Two and two?": "Four.",
    "A colour?": "Blue, or green.",
    "Is it so?": "No",
    "Name a bird.": "The wren",
}
NEW = 40
STAGES = """\
  - stage@chats: corpus
  - data_source@chats.sources: [files]
  - stage@sft: train
  - architecture@sft.architecture: llama
  - objective@sft.objective: sft
  - optimizer@sft.optimizer: adamw
  - schedule@sft.schedule: cosine
  - _self_
stages: [corpus, tokenizer, tokens, pretrain, chats, sft, evaluate]
"""
SETTINGS = """\
chats: {workers: 1, sources: {files: {path: chats.jsonl, rows: messages}}}
sft:
  data: chats
  model: pretrain
  steps: 100
  batch: 4
  seq_len: 96
  optimizer: {lr: 1e-2, weight_decay: 0.0}
  architecture: {hidden: 32, layers: 2, heads: 2, kv_heads: 2, mlp: 64, context: 96}
"""


def recipe() -> str:
    text = RECIPE.replace("  - _self_\nstages: [corpus, tokenizer, tokens, pretrain, evaluate]\n", STAGES)
    text = text.replace("context: 32}", "context: 96}") + SETTINGS
    assert "stage@sft" in text
    return text


@pytest.fixture(scope="module")
def run(cli: WarmCli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stops")
    write_recipe(folder, recipe())
    rows = [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question, answer in ROWS.items()
    ]
    (folder / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    cli(["run", "tiny.yaml", "store.dir=store", "run.dir=run"], folder).check()
    return folder / "run"


def answers(model: Path) -> dict[str, tuple[str, bool]]:
    """Question -> (what the model says when it takes the likeliest token each time, whether it ended)."""
    saved, handle = tokenizer.load(model), load(model, device="cpu", precision="float32")
    sampling = Sampling(max_new_tokens=NEW, temperature=0, stop_ids=(saved.end_id,))
    found = {}
    for question in ROWS:
        prompt = chat.encode_prompt([{"role": "user", "content": question}], saved, "solar")
        new = list(handle.generate(prompt, sampling))
        found[question] = saved.decode([t for t in new if t != saved.end_id]), new[-1] == saved.end_id
    return found


def test_the_tuned_model_answers_and_stops(run: Path) -> None:
    assert answers(run / "stages/sft") == {question: (answer, True) for question, answer in ROWS.items()}
    last = [row for row in rows_of(run) if row["stage"] == "sft" and "loss" in row][-1]
    assert last["accuracy"] == 1.0
    assert last["loss"] < 0.1


def test_the_model_that_it_started_from_does_not(run: Path) -> None:
    assert not any(ended for _, ended in answers(run / "stages/pretrain").values())


def test_the_command_line_stops_too(cli: WarmCli, run: Path) -> None:
    asked = ["generate", run, "A colour?", "--device", "cpu", "--temperature", "0", "--max-new-tokens", str(NEW)]
    assert cli(asked, run.parent).check().out == "Blue, or green.\n"
