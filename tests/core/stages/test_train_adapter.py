"""A train stage with an adapter: what it trains, that it goes on to the same bytes, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lmgraft.artifacts import Artifact
from lmgraft.errors import Stopped, UserError
from lmgraft.registry import registry
from lmgraft.stages import _adapter
from lmgraft.stages.plugin import TrainStage

sys.path.insert(0, str(Path(__file__).parent))

from train_context import Context, files, make_tokens, stage

START = {"model": "pretrain", "initializer": None}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Artifact]]:
    folder = tmp_path_factory.mktemp("pretrained")
    data = make_tokens(folder / "tokens")
    context = Context(folder, {"data": [data]})
    stage(context, steps=3).run(context)
    return {"data": [data], "model": [Artifact("model", context.out, "1" * 64, "pretrain")]}


def context_of(folder: Path, inputs: dict[str, list[Artifact]], **settings: Any) -> Context:
    context = Context(folder, inputs)
    component = registry().get("adapter", "lora").component
    if "base" in settings:
        settings["base"] = type(component.config().base)(settings["base"])
    context.parts["adapter"] = component, component.config(**settings)
    return context


@pytest.mark.parametrize("base", ["float32", "bfloat16", "int8"])
def test_what_is_not_adapted_keeps_its_bits_and_a_plain_model_comes_out(
    base: str, inputs: dict[str, list[Artifact]], tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file

    context = context_of(tmp_path, inputs, targets=["query", "mlp_out"], rank=2, base=base)
    stage(context, **START).run(context)
    before, after = (load_file(at / "model.safetensors") for at in (inputs["model"][0].path, context.out))
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    targets = {name for name in before if "q_proj" in name or "down_proj" in name}
    held = {name for name in before if "_proj" in name}
    assert moved == (targets if base == "float32" else held)
    count = 2 * 2 * ((32 + 32) + (48 + 32))
    assert f"training the adapter lora: {count:,} parameters; the others are frozen" in context.notes
    (config,) = {(at / "config.json").read_text() for at in (inputs["model"][0].path, context.out)}
    assert '"llama"' in config


def test_roles_beside_the_adapter_are_trained_too(inputs: dict[str, list[Artifact]], tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    context = context_of(tmp_path, inputs, targets=["query"])
    stage(context, **START, trainable=["norm"]).run(context)
    before, after = (load_file(at / "model.safetensors") for at in (inputs["model"][0].path, context.out))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if "q_proj" in name or "norm" in name}


@pytest.mark.parametrize(
    "settings",
    [{"base": "float32"}, {"base": "int8"}, {"base": "bfloat16", "dropout": 0.2}],
    ids=lambda one: one["base"],
)
def test_stopped_it_goes_on_to_the_same_bytes(
    settings: dict[str, Any], inputs: dict[str, list[Artifact]], tmp_path: Path
) -> None:
    whole, stopped = (context_of(tmp_path / name, inputs, **settings) for name in ("whole", "stopped"))
    stage(whole, **START, steps=60).run(whole)
    stopped.stop_after = 10
    with pytest.raises(Stopped):
        stage(stopped, **START, steps=60).run(stopped)
    again = context_of(tmp_path / "stopped", inputs, **settings)
    stage(again, **START, steps=60).run(again)
    assert any("going on after step" in note for note in again.notes)
    assert files(again.out) == files(whole.out)


@pytest.mark.parametrize("base", ["bfloat16", "int8"])
def test_a_role_that_the_adapted_model_does_not_hold_is_refused(
    base: str, inputs: dict[str, list[Artifact]], tmp_path: Path
) -> None:
    context = context_of(tmp_path, inputs, base=base)
    with pytest.raises(UserError) as caught:
        stage(context, **START, trainable=["mlp_in"]).run(context)
    said = str(caught.value)
    assert "trainable names mlp_in, and the model with the adapter lora has none of it" in said
    assert "take mlp_in out of pretrain.trainable" in said
    assert len(said.splitlines()) == 3


def of_recipe(model: str | None = None, provides: frozenset[str] = frozenset(), layout: str = "single") -> list[str]:
    def config(seam: str, name: str) -> Any:
        made = registry().get(seam, name).component.config()
        made.part = name
        return made

    class Brings:
        part = "llama"

        def provides(self) -> frozenset[str]:
            return provides

    parts = [
        SimpleNamespace(slot="adapter", path="sft.adapter", config=config("adapter", "lora")),
        SimpleNamespace(slot="architecture", path="sft.architecture", config=Brings()),
        SimpleNamespace(slot="parallelism", path="sft.parallelism", config=config("parallelism", layout)),
    ]
    node = SimpleNamespace(
        parts=parts, config=TrainStage(steps=1), inputs={"model": (model,)} if model is not None else {}
    )
    recipe: Any = SimpleNamespace(stage=lambda name: node)
    return [f"{problem.fact} | {problem.cause} | {problem.remedy}" for problem in _adapter.of_recipe(recipe, "sft")]


def test_an_adapter_needs_weights_to_adapt() -> None:
    (said,) = of_recipe()
    assert "sft.adapter=lora, and sft starts from no model | " in said
    assert "| sft.model=STAGE, or architecture@sft.architecture=pretrained" in said
    assert of_recipe(model="pretrain") == []
    assert of_recipe(provides=frozenset({"weights"})) == []


def test_a_layout_that_builds_from_specs_is_refused() -> None:
    (said,) = of_recipe(model="pretrain", layout="megatron")
    assert said.startswith("sft.adapter=lora does not go together with sft.parallelism=megatron | ")
    assert "parallelism@sft.parallelism=single" in said
    assert of_recipe(model="pretrain", layout="ddp") == []
