"""The train stage with the first-party parts. Run as a program, this file is the process that the tests kill."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lmgraft.artifacts import Artifact, checkpoint
from lmgraft.errors import Stopped, UserError
from lmgraft.registry import build, registry
from lmgraft.seams.stage import Stage
from lmgraft.stages.plugin import Precision, TrainStage
from lmgraft.stages.train import Train, work

TEXTS = [f"{n} and {n} make {n + n}, and {n} times {n} makes {n * n}." for n in range(400)]

PARTS: dict[str, tuple[str, dict[str, Any]]] = {
    "architecture": ("llama", {"layers": 2, "hidden": 32, "heads": 2, "kv_heads": 1, "mlp": 48, "context": 64}),
    "objective": ("causal_lm", {}),
    "optimizer": ("adamw", {"lr": 0.01}),
    "schedule": ("cosine", {}),
    "initializer": ("normal", {}),
    "parallelism": ("single", {"threads": 1}),
}


class Context:
    """A stage's context without a run around it."""

    name = "pretrain"
    seed = 7
    device = "cpu"

    def __init__(self, folder: Path, inputs: Mapping[str, list[Artifact]], **parts: Any) -> None:
        self.work, self.out = folder / "work", folder / "out"
        shutil.rmtree(self.out, ignore_errors=True)
        self.work.mkdir(parents=True, exist_ok=True)
        self.out.mkdir()
        self.inputs = inputs
        self.rows: list[Mapping[str, Any]] = []
        self.notes: list[str] = []
        self.done = 0.0
        self.stop_after = float("inf")
        self.parts: dict[str, tuple[Any, Any]] = {}
        for slot, (name, settings) in PARTS.items():
            component = registry().get(slot, name).component
            self.parts[slot] = component, component.config(**settings | parts.get(slot, {}))

    def component(self, path: str) -> tuple[Any, Any]:
        return self.parts[path]

    def part(self, path: str) -> Any:
        return build(*self.parts[path])

    @contextmanager
    def progress(self, title: str, total: float | None, unit: str) -> Iterator[Context]:
        yield self

    def advance(self, amount: float = 1, **shown: Any) -> None:
        self.done += amount

    def emit(self, row: Mapping[str, Any]) -> None:
        self.rows.append(row)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def checkpointed(self, step: int, path: Path) -> None: ...

    def alive(self) -> None:
        if len(self.rows) > self.stop_after:
            raise Stopped("stopped on SIGTERM")


def stage(context: Context, **changes: Any) -> Train:
    settings: dict[str, Any] = {"steps": 12, "batch": 4, "seq_len": 32, "precision": Precision.float32}
    slots = {slot: config for slot, (_, config) in context.parts.items()}
    return Train(TrainStage(**(slots | settings | changes)))


def make_tokens(folder: Path, texts: list[str] = TEXTS, shift: int = 0, words: Sequence[str] = ()) -> Artifact:
    """Every byte is a token, and so are ``words``, after them; ``shift`` gives the bytes other ids."""
    from lmgraft.artifacts import tokenizer, tokens
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder.mkdir(parents=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: (index + shift) % 256 for index, letter in enumerate(alphabet)}
    made = Tokenizer(models.BPE(vocab, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<|endoftext|>", "<|pad|>"])
    made.add_tokens(list(words))
    made.save(str(folder / "tokenizer.json"))
    special = {"eos_token": "<|endoftext|>", "pad_token": "<|pad|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(special))
    saved = tokenizer.load(folder)
    splits = {}
    for split, part in (("train", texts[40:]), ("validation", texts[:40])):
        with tokens.TokenWriter(folder / split, tokens.token_dtype(saved.vocab_size), saved.end_id) as writer:
            for ids in saved.encode_batch(part):
                writer.add(ids)
        size = sum(len(text) for text in part)
        splits[split] = tokens.SplitCount(writer.documents, writer.tokens, size, size)
    tokens.TokensInfo(saved.vocab_size, "uint16", saved.fingerprint(), saved.end_id, saved.pad_id, splits).write(folder)
    return Artifact("tokens", folder, "0" * 64, "tokens")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_tokens(tmp_path_factory.mktemp("data") / "tokens")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def timeless(rows: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in ("tokens_per_second", "data_wait")} for row in rows]


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


@pytest.fixture(scope="module")
def extended(data: Artifact, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Artifact]]:
    """Tokens of a vocabulary with a word more, a model of it, and the vocabulary without that word."""
    folder = tmp_path_factory.mktemp("extended")
    more = make_tokens(folder / "tokens", words=["makes"])
    context = Context(folder, {"data": [more]})
    stage(context, steps=3).run(context)
    model = Artifact("model", context.out, "1" * 64, "pretrain")
    return {"data": [more], "model": [model], "frozen_vocabulary": [Artifact("tokenizer", data.path, "2" * 64, "old")]}


START = {"model": "pretrain", "initializer": None}


def test_only_new_rows_are_trained(extended: dict[str, list[Artifact]], tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    context = Context(tmp_path, extended)
    stage(context, **START, frozen_vocabulary="old", trainable=["embedding", "head"]).run(context)
    before, after = (load_file(at / "model.safetensors") for at in (extended["model"][0].path, context.out))
    tables = {"model.embed_tokens.weight", "lm_head.weight"}
    for name, one in before.items():
        assert (after[name].shape[0] == 259) is (name in tables)
        first = 258 if name in tables else len(one)
        assert torch.equal(after[name][:first], one[:first])
        assert name not in tables or not torch.equal(after[name][258], one[258])
    assert "training embedding, head alone; the other weights are frozen" in context.notes
    assert "rows of embedding and head: 258 are frozen, 1 are not" in context.notes


def test_frozen_it_goes_on_to_the_same_bytes(extended: dict[str, list[Artifact]], tmp_path: Path) -> None:
    settings = {**START, "frozen_vocabulary": "old", "trainable": ["embedding", "head"], "steps": 60}
    whole, stopped = (Context(tmp_path / name, extended) for name in ("whole", "stopped"))
    stage(whole, **settings).run(whole)
    stopped.stop_after = 10
    with pytest.raises(Stopped):
        stage(stopped, **settings).run(stopped)
    again = Context(tmp_path / "stopped", extended)
    stage(again, **settings).run(again)
    assert any("going on after step" in note for note in again.notes)
    assert files(again.out) == files(whole.out)


def test_from_scratch_the_other_weights_stay_as_drawn(data: Artifact, tmp_path: Path) -> None:
    context = Context(tmp_path, {"data": [data]})
    stage(context, trainable=["embedding", "head"]).run(context)
    assert any("which keep what the initializer drew" in note for note in context.notes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trainable": ["position"]}, ["no parameter of such a role", "attention_out, embedding, head, key"]),
        ({"old": "larger"}, ["frozen_vocabulary=old does not fit", "260 tokens", "259"]),
        ({"old": "other"}, ["frozen_vocabulary=old does not fit", "by their number, and id "]),
        ({"old": "whole", "trainable": ["embedding"]}, ["leaves nothing to train", "all 259 tokens"]),
    ],
)
def test_what_freezes_too_much_is_refused_before_work(
    change: dict[str, Any], words: list[str], extended: dict[str, list[Artifact]], tmp_path: Path
) -> None:
    made = {
        "larger": partial(make_tokens, words=["makes", "times"]),
        "other": partial(make_tokens, shift=1),
        "whole": partial(make_tokens, words=["makes"]),
    }
    inputs = dict(extended)
    if old := change.get("old"):
        inputs["frozen_vocabulary"] = [Artifact("tokenizer", made[old](tmp_path / "old").path, "3" * 64, "old")]
    context = Context(tmp_path, inputs)
    settings = {"frozen_vocabulary": "old", "trainable": change.get("trainable", [])}
    with pytest.raises(UserError) as caught:
        stage(context, **START, **settings).run(context)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)
    assert list(context.work.iterdir()) == []


def of_recipe(architecture: dict[str, Any], **settings: Any) -> list[str]:
    """What is refused with the recipe, before anything is built."""
    from types import SimpleNamespace

    from lmgraft.stages import _frozen

    component = registry().get("architecture", "llama").component
    sizes = {**PARTS["architecture"][1], **architecture}
    if "norm" in sizes:
        sizes["norm"] = type(component.config().norm)(sizes["norm"])
    part = SimpleNamespace(seam="architecture", config=component.config(**sizes))
    node = SimpleNamespace(parts=[part], config=TrainStage(steps=1, **settings))
    recipe: Any = SimpleNamespace(stage=lambda name: node)
    return [f"{problem.fact} | {problem.cause} | {problem.remedy}" for problem in _frozen.of_recipe(recipe, "pretrain")]


def test_frozen_rows_need_a_model_to_start_from() -> None:
    (said,) = of_recipe({}, frozen_vocabulary="old")
    assert "starts from no model | it would keep rows as the initializer draws them | pretrain.model=STAGE" in said
    assert of_recipe({}, frozen_vocabulary="old", model="pretrain") == []


def test_an_unknown_role_is_named(tmp_path: Path) -> None:
    (unknown,) = stage(Context(tmp_path, {}), trainable=["heads"]).config.check()
    assert "trainable names 'heads'; roles of weights are embedding, position, head" in unknown
    assert of_recipe({}, trainable=["heads"]) == []


@pytest.mark.parametrize(
    ("architecture", "trainable", "remedy"),
    [
        ({"tied": True}, ["head"], "its head is the embedding | pretrain.trainable=[embedding]"),
        ({"norm": "none"}, ["norm", "bias"], "name some of these in pretrain.trainable"),
        ({"tied": True}, ["head", "mlp_gate"], None),
        ({}, ["head"], None),
    ],
)
def test_roles_that_a_decoder_lacks_are_refused_with_the_recipe(
    architecture: dict[str, Any], trainable: list[str], remedy: str | None
) -> None:
    found = of_recipe(architecture, trainable=trainable)
    assert [remedy in one for one in found if remedy] == ([True] if remedy else [])
    assert bool(found) is bool(remedy)


def test_ids_past_the_vocabulary_are_refused_before_work(data: Artifact, tmp_path: Path) -> None:
    """The manifest and the tokenizer say 258; the file holds what it holds."""
    import numpy as np

    lying = Artifact("tokens", tmp_path / "lying", "0" * 64, "tokens")
    shutil.copytree(data.path, lying.path)
    context = Context(tmp_path / "run", {"data": [lying]})
    stage(context, steps=1).run(context)  # as it is, it is fine
    ids = np.memmap(lying.path / "train.bin", dtype="<u2", mode="r+")
    ids[1000] = 300
    ids.flush()
    stage(context, steps=1).run(context)  # a stage that goes on does not read all of it again
    told = json.loads((lying.path / "tokens.json").read_text())
    (lying.path / "tokens.json").write_text(json.dumps(told | {"pad_id": 999}))
    context = Context(tmp_path / "again", {"data": [lying]})
    with pytest.raises(UserError) as caught:
        stage(context).run(context)
    facts = [problem.fact for problem in caught.value.problems]
    assert facts == [
        "stage pretrain: tokens.json of tokens has pad_id 999",
        f"stage pretrain: the train split of tokens holds id 300 (token 1,000 of {len(ids):,})",
    ]
    assert "the vocabulary has 258 tokens, ids 0 to 257" in str(caught.value)
    assert list(context.work.iterdir()) == []


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
train = Train(TrainStage(steps=1))
train.identity(SimpleNamespace(device="cpu", seed=0))
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
