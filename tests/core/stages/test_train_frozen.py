"""A train stage that trains parts of a model, and one whose tokens hold ids that the model has no row for."""

from __future__ import annotations

import json
import shutil
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lmgraft.artifacts import Artifact
from lmgraft.errors import Stopped, UserError
from lmgraft.registry import registry
from lmgraft.stages import _frozen
from lmgraft.stages.plugin import TrainStage
from lmgraft.tokenview.comparing import first_other

sys.path.insert(0, str(Path(__file__).parent))

from train_context import PARTS, Context, files, make_tokens, stage


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_tokens(tmp_path_factory.mktemp("data") / "tokens")


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


def test_parts_of_characters_are_told_apart(data: Artifact, tmp_path: Path) -> None:
    """Decoded, each of them is U+FFFD, a byte long."""
    shutil.copytree(data.path, tmp_path / "other")
    file = tmp_path / "other" / "tokenizer.json"
    content = json.loads(file.read_text())
    vocab = content["model"]["vocab"]
    high = [piece for piece in vocab if piece >= "\u00e0" and piece < "\u00f0"][:2]
    vocab[high[0]], vocab[high[1]] = vocab[high[1]], vocab[high[0]]
    file.write_text(json.dumps(content))
    assert first_other(data.path, data.path) is None
    found = first_other(data.path, tmp_path / "other")
    assert found is not None
    assert found[0] == min(vocab[piece] for piece in high)
    assert found[1] != found[2]


def of_recipe(architecture: dict[str, Any], **settings: Any) -> list[str]:
    """What is refused with the recipe, before anything is built."""
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
