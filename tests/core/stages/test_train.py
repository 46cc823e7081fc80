"""The train stage with the first-party parts. Run as a program, this file is the process that the tests kill."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from lmgraft.artifacts import Artifact, checkpoint
from lmgraft.errors import Stopped, UserError
from lmgraft.registry import registry
from lmgraft.seams.stage import Stage
from lmgraft.stages.plugin import Precision
from lmgraft.stages.train import work

sys.path.insert(0, str(Path(__file__).parent))

from train_context import Context, files, make_tokens, stage, timeless


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_tokens(tmp_path_factory.mktemp("data") / "tokens")


def test_a_model_comes_out(data: Artifact, tmp_path: Path) -> None:
    context = Context(tmp_path, {"data": [data]})
    train = stage(context, steps=30)
    assert isinstance(train, Stage)
    train.run(context)
    assert sorted(files(context.out)) == [
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    checkpoint.verify(context.out)
    config, generation = (json.loads(files(context.out)[f"{name}config.json"]) for name in ("", "generation_"))
    assert config["vocab_size"] == 258
    ids = {"bos_token_id": 256, "eos_token_id": 256, "pad_token_id": 257}
    assert ids.items() <= config.items()
    assert generation == ids
    losses = [row["loss"] for row in context.rows if "loss" in row]
    assert len(losses) == 30
    assert losses[-1] < losses[0] - 1
    validation = [row for row in context.rows if "val_loss" in row]
    assert [row["step"] for row in validation] == [0, 30]
    assert validation[1]["val_bits_per_byte"] < validation[0]["val_bits_per_byte"] < 9
    assert context.done == 30
    facts = dict(train.summary(Artifact("model", context.out, "", "pretrain")))
    assert facts["parameters"] == f"{checkpoint.parameters(context.out):,}"


def test_transformers_gives_the_loss_of_the_last_row(data: Artifact, tmp_path: Path) -> None:
    import torch
    from lmgraft.training.loader import PackedDataset, validation_batches
    from transformers import AutoModelForCausalLM

    context = Context(tmp_path, {"data": [data]})
    stage(context).run(context)
    model = AutoModelForCausalLM.from_pretrained(context.out)
    nats = count = 0.0
    for batch in validation_batches(PackedDataset(data.path, "validation", 32), 1, None):
        assert batch.segments is not None
        row = torch.where(batch.segments[0] >= 0, batch.segments[0], 1000)
        mask = (row[:, None] == row[None, :]).tril()[None, None]
        with torch.no_grad():
            logits = model(batch.tokens, position_ids=batch.positions, attention_mask=mask).logits.log_softmax(-1)
        there = batch.targets >= 0
        nats -= float(logits[there].gather(1, batch.targets[there][:, None]).sum())
        count += int(there.sum())
    assert context.rows[-1]["val_loss"] == pytest.approx(nats / count, rel=1e-5)


def test_the_same_bytes_twice_whatever_the_microbatches_of_logging(data: Artifact, tmp_path: Path) -> None:
    one, two = (Context(tmp_path / name, {"data": [data]}) for name in ("one", "two"))
    stage(one).run(one)
    stage(two, log_every=5, validate_every=3, checkpoint_every=2).run(two)
    assert files(one.out) == files(two.out)


def test_stopped_by_a_signal_it_goes_on_with_whole_metrics(data: Artifact, tmp_path: Path) -> None:
    whole = Context(tmp_path / "whole", {"data": [data]})
    stage(whole, steps=120).run(whole)
    stopped = Context(tmp_path / "stopped", {"data": [data]})
    stopped.stop_after = 20
    with pytest.raises(Stopped, match="SIGTERM"):
        stage(stopped, steps=120).run(stopped)
    assert files(stopped.out) == {}
    again = Context(tmp_path / "stopped", {"data": [data]})
    stage(again, steps=120).run(again)
    assert any("going on after step" in note for note in again.notes)
    assert files(again.out) == files(whole.out)
    assert timeless(again.rows) == timeless(whole.rows)
    assert again.done == 120


@pytest.mark.slow
def test_killed_anywhere_it_ends_with_the_same_bytes(data: Artifact, tmp_path: Path) -> None:
    whole = Context(tmp_path / "whole", {"data": [data]})
    stage(whole, steps=KILLED_STEPS, checkpoint_every=1).run(whole)
    command = [sys.executable, __file__, str(tmp_path / "killed"), str(data.path)]
    reached = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert len(reached) == KILLS
    assert reached == sorted(reached)
    assert reached[-1] < f"step-{KILLED_STEPS:08d}"
    assert files(tmp_path / "killed/out") == files(whole.out)
    rows = [json.loads(line) for line in (tmp_path / "killed/rows.jsonl").read_text().splitlines()]
    assert timeless(rows) == timeless(whole.rows)


KILLED_STEPS = 40
KILLS = 5


def test_it_starts_from_a_model(data: Artifact, tmp_path: Path) -> None:
    first = Context(tmp_path / "first", {"data": [data]})
    stage(first).run(first)
    model = Artifact("model", first.out, "1" * 64, "pretrain")
    second = Context(tmp_path / "second", {"data": [data], "model": [model]})
    stage(second, model="pretrain", initializer=None).run(second)
    assert second.rows[0]["val_loss"] == pytest.approx(first.rows[-1]["val_loss"], rel=1e-6)
    assert second.rows[-1]["val_loss"] < second.rows[0]["val_loss"]


def test_an_initializer_s_learning_rates_hold_from_a_model_too(data: Artifact, tmp_path: Path) -> None:
    first = Context(tmp_path / "first", {"data": [data]})
    stage(first, steps=1).run(first)
    model = Artifact("model", first.out, "1" * 64, "pretrain")
    found = {}
    for name, settings in (("none", {}), ("normal", {}), ("mup", {"base_hidden": 32}), ("mup", {"base_hidden": 16})):
        key = f"{name}{settings.get('base_hidden', '')}"
        context = Context(tmp_path / key, {"data": [data], "model": [model]})
        changes = {"initializer": None}
        if name != "none":
            component = registry().get("initializer", name).component
            context.parts["initializer"] = component, component.config(**settings)
            changes = {"initializer": context.parts["initializer"][1]}
        stage(context, model="pretrain", steps=3, **changes).run(context)
        found[key] = context.rows[-1]["val_loss"]
    assert found["none"] == found["normal"]
    assert found["mup32"] == pytest.approx(found["normal"], rel=1e-6)  # as wide as the base
    assert abs(found["mup16"] - found["normal"]) > 1e-4


def test_a_model_of_another_vocabulary_is_refused(data: Artifact, tmp_path: Path) -> None:
    first = Context(tmp_path / "first", {"data": [data]})
    stage(first, steps=1).run(first)
    model = Artifact("model", first.out, "1" * 64, "pretrain")
    other = make_tokens(tmp_path / "other", shift=1)
    for change in ("ids", "size"):
        context = Context(tmp_path / change, {"data": [other], "model": [model]})
        with pytest.raises(UserError, match="different vocabularies"):
            stage(context, model="pretrain", initializer=None).run(context)
        config = checkpoint.read_config(first.out)
        (first.out / "config.json").write_text(json.dumps(config | {"vocab_size": 300}))


def test_what_cannot_work_is_refused_at_once(data: Artifact, tmp_path: Path) -> None:
    context = Context(tmp_path, {"data": [data]})
    with pytest.raises(UserError) as caught:
        stage(context, seq_len=128, batch=10_000).run(context)
    facts = [problem.fact for problem in caught.value.problems]
    assert facts[0] == "stage pretrain: seq_len=128"
    assert "the training split of tokens holds" in facts[1]
    assert list(context.work.iterdir()) == []


def test_rows_without_a_tokenizer_are_refused(data: Artifact, tmp_path: Path) -> None:
    corpus = Artifact("corpus", data.path, "0" * 64, "corpus")
    context = Context(tmp_path, {"data": [corpus]})
    with pytest.raises(UserError, match="stage pretrain has no tokenizer"):
        stage(context).run(context)


def test_an_error_of_the_work_reaches_the_user(data: Artifact, tmp_path: Path) -> None:
    context = Context(tmp_path, {"data": [data]}, optimizer={"lr": 1e30})
    with pytest.raises(UserError, match="diverged"):
        stage(context, steps=400, clip=None, skip_nonfinite=3).run(context)
    assert context.rows  # the rows until then are there


def test_without_held_out_text_there_is_no_held_out_loss(data: Artifact, tmp_path: Path) -> None:
    context = Context(tmp_path, {"data": [data]})
    stage(context, validation_tokens=0).run(context)
    assert not any("val_loss" in row for row in context.rows)


def test_the_work_can_be_sent_to_another_process(data: Artifact, tmp_path: Path) -> None:
    context = Context(tmp_path, {"data": [data]})
    job = partial(work, stage(context)._job(context))
    again = pickle.loads(pickle.dumps(job))
    from lmgraft_data_parallel.engine import SingleEngine

    again(SingleEngine)
    checkpoint.verify(context.out)


def test_identity_resolves_what_is_open(data: Artifact, tmp_path: Path) -> None:
    context = Context(tmp_path, {"data": [data]})
    assert stage(context).identity(context) == {"precision": "float32", "seed": 7}
    assert stage(context, precision=Precision.bfloat16, seed=3).identity(context) == {
        "precision": "bfloat16",
        "seed": 3,
    }
    context.device = "cuda"
    assert stage(context, precision=Precision.auto).identity(context)["precision"] == "bfloat16"


def test_a_mixture_s_identity_is_the_weights_in_the_order_of_the_inputs(data: Artifact, tmp_path: Path) -> None:
    """And not what the stages are called: two that change their names have changed their weights."""
    context = Context(tmp_path, {"data": [data]})
    for weights, order in (({"a": 0.1, "tokens": 0.9}, [0.9, 0.1]), ({"tokens": 0.1, "a": 0.9}, [0.1, 0.9])):
        mixed = stage(context, more_data=["a"], data_weights=weights)
        assert mixed.identity(context)["weights"] == order


def test_a_source_of_weight_0_has_the_model_s_tokenizer_all_the_same(data: Artifact, tmp_path: Path) -> None:
    other = dataclasses.replace(make_tokens(tmp_path / "other", shift=1), stage="other")
    context = Context(tmp_path, {"data": [data], "more_data": [other]})
    with pytest.raises(UserError, match="tokens and other are encoded by different tokenizers"):
        stage(context, more_data=["other"], data_weights={"tokens": 0.0, "other": 1.0}).run(context)


def test_a_stage_that_is_reused_needs_no_torch(data: Artifact, tmp_path: Path) -> None:
    context = Context(tmp_path, {"data": [data]})
    stage(context, steps=1).run(context)
    code = """
import sys
from pathlib import Path
from types import SimpleNamespace
from lmgraft.artifacts import Artifact
from lmgraft.stages.plugin import TrainStage
from lmgraft.stages.train import Train
train = Train(TrainStage(steps=1, architecture=object()))
train.identity(SimpleNamespace(device="cpu", seed=0, inputs={}, component=lambda slot: (None, None)))
print(dict(train.summary(Artifact("model", Path(sys.argv[1]), "", "pretrain"))))
assert not {"torch", "numpy", "tokenizers"} & set(sys.modules), "something heavy was imported"
"""
    subprocess.run([sys.executable, "-c", code, context.out], check=True, stdout=subprocess.DEVNULL)


def main(folder: Path, tokens: Path) -> None:
    """Trains in children that it kills, most of them soon after a checkpoint, some while they begin.

    Forks of a process that has imported torch and not used it: an import takes seconds in which nothing can break.
    """
    import torch

    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])  # imports the rest of it
    chance = random.Random(5)
    for kill in range(KILLS + 1):
        before = newest(folder)
        if (child := os.fork()) == 0:
            train(folder, tokens)
            os._exit(0)
        if kill == KILLS:
            _, status = os.waitpid(child, 0)
            sys.exit(os.waitstatus_to_exitcode(status))
        deadline = time.monotonic() + 60
        while kill % 3 and newest(folder) == before and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(chance.random() * (0.02 if kill % 3 else 0.3))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        print(newest(folder))


def newest(folder: Path) -> str:
    return max((path.name for path in folder.glob("work/checkpoints/step-????????")), default="none")


def train(folder: Path, tokens: Path) -> None:
    context = Context(folder, {"data": [Artifact("tokens", tokens, "0" * 64, "tokens")]})
    stage(context, steps=KILLED_STEPS, checkpoint_every=1).run(context)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in context.rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
